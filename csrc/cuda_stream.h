// Where an op's kernels run: on the device of its tensors, and on that device's current stream.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

namespace mrcnn {

class __attribute__((visibility("hidden"))) OnDeviceOf {
 public:
#ifdef MRCNN_CUDA_ON_CPU
  explicit OnDeviceOf(const torch::stable::Tensor&) {}
#else
  explicit OnDeviceOf(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream_));
  }
#endif
  void* stream() const { return stream_; }

 private:
#ifndef MRCNN_CUDA_ON_CPU
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  void* stream_ = nullptr;
};

}  // namespace mrcnn
