// The library of the backend "emulated": the schemas, and the CUDA kernels of every op compiled by the host compiler.
#include "../library.cpp"

#include "../anchor_matching/anchor_matching.cu"
#include "../anchor_matching/anchor_matching_cuda.cpp"
#include "../nms/nms.cu"
#include "../nms/nms_cuda.cpp"
#include "../roi_align/roi_align.cu"
#include "../roi_align/roi_align_cuda.cpp"
