#include "../nms/nms.cu"
#include "../nms/nms_cuda.cpp"
