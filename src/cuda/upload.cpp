// Batches on their way to a GPU beside what it computes: a copy stream and pinned buffers of their own.
#include <cstring>
#include <vector>

#include "crema/device.hpp"
#include "cuda/event.hpp"
#include "cuda/handles.hpp"
#include "cuda/pinned.hpp"

namespace crema {
namespace {

class CudaUpload final : public Upload {
 public:
  explicit CudaUpload(std::shared_ptr<CudaHandles> handles) : handles_(std::move(handles)) {
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  ~CudaUpload() override {
    handles_->MakeCurrent();
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }

  void Begin() override {
    handles_->MakeCurrent();
    before_.Order(handles_->stream(), stream_);
    sends_ = 0;
  }

  void Send(Tensor* to, const void* from) override {
    handles_->MakeCurrent();
    const size_t bytes = static_cast<size_t>(to->bytes());
    if (bytes == 0) return;
    if (sends_ == 0) sent_.Synchronize();  // the buffers are free
    if (sends_ == buffers_.size()) buffers_.emplace_back();
    std::unique_ptr<Pinned>& buffer = buffers_[sends_++];
    if (buffer == nullptr || buffer->bytes() < bytes) buffer = std::make_unique<Pinned>(bytes);
    std::memcpy(buffer->memory(), from, bytes);
    CheckCuda(cudaMemcpyAsync(to->raw(), buffer->memory(), bytes, cudaMemcpyDefault, stream_),
              "cudaMemcpyAsync to the GPU");
    sent_.Record(stream_);
  }

  void Wait() override {
    handles_->MakeCurrent();
    CheckCuda(sent_.HoldUp(handles_->stream()), "cudaStreamWaitEvent");
  }

 private:
  std::shared_ptr<CudaHandles> handles_;
  cudaStream_t stream_ = nullptr;
  CudaEvent before_, sent_;
  std::vector<std::unique_ptr<Pinned>> buffers_;  // one for each Send
  size_t sends_ = 0;
};

}  // namespace

std::unique_ptr<Upload> NewCudaUpload(std::shared_ptr<CudaHandles> handles) {
  handles->MakeCurrent();
  return std::make_unique<CudaUpload>(std::move(handles));
}

}  // namespace crema
