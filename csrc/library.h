// The names under which the ops are registered.
//
// The library is built twice: as torch.ops.mrcnn (CPU kernels, and CUDA kernels where there is a toolkit), and as
// torch.ops.mrcnn_emulated, where the very same .cu files are compiled by the host compiler and answer for CPU tensors.
// The second build sets both macros on its command line.
#pragma once

#include <torch/csrc/stable/library.h>

#ifndef MRCNN_LIBRARY
#define MRCNN_LIBRARY mrcnn
#endif

#ifndef MRCNN_CUDA_KEY
#define MRCNN_CUDA_KEY CUDA
#endif
