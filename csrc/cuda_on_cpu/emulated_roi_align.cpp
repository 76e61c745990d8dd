#include "../roi_align/roi_align.cu"
#include "../roi_align/roi_align_cuda.cpp"
