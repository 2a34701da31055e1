// Floor 1, inside src/cuda. A point in a GPU's stream. Used there and by the NCCL communicator and its watch.
#pragma once

#include "cuda/check.hpp"

namespace crema {

class CudaEvent {
 public:
  CudaEvent() {
    CheckCuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  ~CudaEvent() { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  void Record(cudaStream_t stream) { CheckCuda(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  // The host waits.
  void Synchronize() { CheckCuda(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
  // Whether the stream is there. A GPU that has failed never is: the next call on it says why.
  bool HasCome() const { return cudaEventQuery(event_) == cudaSuccess; }
  // The host does not wait; what the stream is given from now on does.
  cudaError_t HoldUp(cudaStream_t stream) { return cudaStreamWaitEvent(stream, event_, 0); }
  // All that `later` is given from now on comes after all that `earlier` has been given.
  void Order(cudaStream_t earlier, cudaStream_t later) {
    Record(earlier);
    CheckCuda(HoldUp(later), "cudaStreamWaitEvent");
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace crema
