// Floor 2. Context: everything a layer may ask of the outside world. Passed to each call, never global, so
// that N ranks can be N threads of one process.
#pragma once

#include "crema/comm.hpp"
#include "crema/device.hpp"
#include "crema/philox.hpp"

namespace crema {

struct Context {
  Device* device = nullptr;
  Communicator* comm = nullptr;
  Scratch* scratch = nullptr;
  DType real = DType::kF32;  // type of activations and weights; f64 in gradient checks
  // Of the activations of layers that take 16 bits: bf16 or f16 in mixed precision, else as `real`.
  DType activations = DType::kF32;
  // The gradients of blobs of 16 bits are held times this, a power of two, so that f16 does not lose small
  // ones (loss scaling; Micikevicius et al., arXiv 1710.03740, section 3.2).
  double grad_scale = 1;
  uint64_t seed = 0;      // the same on all ranks; randomness differs by global index, never by rank
  int64_t iteration = 0;  // of the solver
  int64_t pass = 0;       // forward passes of this net before this one: iteration * iter_size + part

  // A random stream for one purpose in this pass, such as Random("dropout/drop1").
  Philox Random(std::string_view what) const { return MakePhilox(seed, what, pass); }
};

// Owns what a Context points to, for a single rank on the CPU or with a given communicator.
class Workplace {
 public:
  Workplace() : Workplace(NewCpuDevice(), NewSelfCommunicator()) {}
  // On the CPU, with a communicator that outlives it.
  explicit Workplace(Communicator& comm) : Workplace(NewCpuDevice(), comm) {}
  // The same on any device: between GPUs, collectives go by NCCL, with that patience, and `host` carries what
  // the hosts say.
  Workplace(std::unique_ptr<Device> device, Communicator& host, double patience = kGpuPatience)
      : device_(std::move(device)),
        comm_(device_->is_cuda() ? NewGpuCommunicator(host, *device_, patience) : nullptr),
        scratch_(*device_) {
    context_.comm = comm_ != nullptr ? comm_.get() : &host, Point();
  }
  Workplace(std::unique_ptr<Device> device, std::unique_ptr<Communicator> comm)
      : device_(std::move(device)), comm_(std::move(comm)), scratch_(*device_) {
    context_.comm = comm_.get(), Point();
  }
  Workplace(const Workplace&) = delete;
  Context& context() { return context_; }
  operator Context&() { return context_; }

 private:
  void Point() { context_.device = device_.get(), context_.scratch = &scratch_; }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Communicator> comm_;
  Scratch scratch_;
  Context context_;
};

}  // namespace crema
