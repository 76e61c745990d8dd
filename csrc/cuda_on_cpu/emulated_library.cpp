// These emulated_*.cpp make the library of the backend "emulated": the schemas, and each op's CUDA kernels compiled by
// the host compiler.
#include "../library.cpp"
