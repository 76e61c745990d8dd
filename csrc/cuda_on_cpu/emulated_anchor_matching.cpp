#include "../anchor_matching/anchor_matching.cu"
#include "../anchor_matching/anchor_matching_cuda.cpp"
