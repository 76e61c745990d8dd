"""What the lessons import: drawings, and CUDA kernels run on the CPU."""
