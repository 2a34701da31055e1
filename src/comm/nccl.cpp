// Ranks with a GPU each, through NCCL. Collectives run on a stream of their own, in the order of the calls;
// events put them behind what the compute stream was given before, and what it is given later behind them, so
// that the host never waits.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include <nccl.h>

#include "comm/checks.hpp"
#include "comm/nccl_watch.hpp"
#include "cuda/event.hpp"

namespace crema {
namespace {

void CheckNccl(ncclResult_t status, const char* call) {
  if (status != ncclSuccess)
    FailOnGpu(call, ncclGetErrorString(status), " (", ncclGetLastError(nullptr), ")");
}

ncclDataType_t NcclTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kF16:
      return ncclFloat16;
    default:
      return ncclInt64;  // CheckReducible lets nothing else through
  }
}

class PendingOnStream final : public Pending {
 public:
  PendingOnStream(const Tensor& tensor, cudaStream_t started_on, cudaStream_t compute)
      : tensor_(tensor), compute_(compute) {
    done_.Record(started_on);
  }
  // Without a Wait() the memory could be given to the next tensor while NCCL still writes to it.
  ~PendingOnStream() override {
    if (waiting_) done_.HoldUp(compute_);
  }
  void Wait() override {
    if (waiting_) CheckCuda(done_.HoldUp(compute_), "cudaStreamWaitEvent");
    waiting_ = false;
  }

 private:
  Tensor tensor_;
  cudaStream_t compute_;
  CudaEvent done_;
  bool waiting_ = true;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, Device& device, double patience)
      : host_(host), device_(device), uncaught_(std::uncaught_exceptions()) {
    device_.Stream();  // makes the GPU current
    ncclUniqueId id = AgreeOnId();
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    watch_ = std::make_unique<NcclWatch>(host_, device_, patience,
                                         [this](const std::string& trouble) { GiveUp(trouble); });
    ncclComm_t comm = nullptr;
    CheckNccl(ncclCommInitRank(&comm, size(), id, rank()), "ncclCommInitRank");
    comm_ = comm;
    watch_->Connected(comm);
  }
  ~NcclCommunicator() override {
    watch_.reset();
    // After an error of this rank the others will not take part in what is under way.
    if (gave_up_) {
      cudaStreamSynchronize(stream_);
    } else if (std::uncaught_exceptions() > uncaught_) {
      ncclCommAbort(comm_);
    } else {
      cudaStreamSynchronize(stream_);
      ncclCommDestroy(comm_);
    }
    cudaStreamDestroy(stream_);
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }

  void AllReduce(Tensor* tensor, Reduce op) override { StartAllReduce(tensor, op)->Wait(); }

  std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) override {
    CheckReducible("AllReduce", *tensor);
    CheckHere("AllReduce", *tensor);
    const cudaStream_t compute = Begin();
    CheckNccl(
        ncclAllReduce(tensor->raw(), tensor->raw(), static_cast<size_t>(tensor->count()),
                      NcclTypeOf(tensor->dtype()), op == Reduce::kSum ? ncclSum : ncclMax, comm_, stream_),
        "ncclAllReduce");
    watch_->Started("an all-reduce", stream_);
    return std::make_unique<PendingOnStream>(*tensor, stream_, compute);
  }

  void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) override {
    CheckRows("AllGather", *this, rows, mine, *all);
    CheckHere("AllGather", mine);
    CheckHere("AllGather", *all);
    const cudaStream_t compute = Begin();
    if (AreEqual(rows)) {
      CheckNccl(
          ncclAllGather(mine.raw(), all->raw(), static_cast<size_t>(mine.bytes()), ncclUint8, comm_, stream_),
          "ncclAllGather");
    } else {
      InGroup([&] {
        char* to = static_cast<char*>(all->raw());
        for (size_t r = 0; r < rows.size(); ++r) {
          const size_t bytes = static_cast<size_t>(rows[r] * RowBytes(*all));
          CheckNccl(ncclBroadcast(mine.raw(), to, bytes, ncclUint8, static_cast<int>(r), comm_, stream_),
                    "ncclBroadcast");
          to += bytes;
        }
      });
    }
    watch_->Started("an all-gather", stream_);
    order_.Order(stream_, compute);
  }

  void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) override {
    CheckReducible("ReduceScatter", all);
    CheckRows("ReduceScatter", *this, rows, *mine, all);
    CheckHere("ReduceScatter", all);
    CheckHere("ReduceScatter", *mine);
    const ncclDataType_t type = NcclTypeOf(all.dtype());
    const cudaStream_t compute = Begin();
    if (AreEqual(rows)) {
      CheckNccl(ncclReduceScatter(all.raw(), mine->raw(), static_cast<size_t>(mine->count()), type, ncclSum,
                                  comm_, stream_),
                "ncclReduceScatter");
    } else {
      InGroup([&] {
        const char* from = static_cast<const char*>(all.raw());
        for (size_t r = 0; r < rows.size(); ++r) {
          const int64_t bytes = rows[r] * RowBytes(all);
          CheckNccl(ncclReduce(from, mine->raw(), static_cast<size_t>(bytes / SizeOf(all.dtype())), type,
                               ncclSum, static_cast<int>(r), comm_, stream_),
                    "ncclReduce");
          from += bytes;
        }
      });
    }
    watch_->Started("a reduce-scatter", stream_);
    order_.Order(stream_, compute);
  }

  void Broadcast(Tensor* tensor, int root) override {
    CheckHere("Broadcast", *tensor);
    CheckRoot("Broadcast", *this, root);
    const cudaStream_t compute = Begin();
    CheckNccl(ncclBroadcast(tensor->raw(), tensor->raw(), static_cast<size_t>(tensor->bytes()), ncclUint8,
                            root, comm_, stream_),
              "ncclBroadcast");
    watch_->Started("a broadcast", stream_);
    order_.Order(stream_, compute);
  }

  // Between processes, not between GPUs.
  void Barrier() override { host_.Barrier(); }
  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override {
    const NcclWatch::HostsWait waiting(*watch_);
    return host_.AllGatherNumbers(mine, counts);
  }
  std::vector<int64_t> AllGatherNumber(int64_t number) override { return host_.AllGatherNumber(number); }
  void Abort(const std::string& message) override { host_.Abort(message); }

 private:
  // The root's number for this job, through the host's communicator.
  ncclUniqueId AgreeOnId() {
    ncclUniqueId id{};
    if (root()) CheckNccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    const std::unique_ptr<Device> cpu = NewCpuDevice();
    Tensor bytes(*cpu, DType::kU8, {static_cast<int64_t>(sizeof(id))});
    bytes.CopyFromHost(&id, bytes.count());
    host_.Broadcast(&bytes, 0);
    bytes.CopyToHost(&id);
    return id;
  }

  // Puts what follows on the communication stream behind the compute stream, which it returns.
  cudaStream_t Begin() {
    if (gave_up_) Fail(trouble_);
    const cudaStream_t compute = static_cast<cudaStream_t>(device_.Stream());
    order_.Order(compute, stream_);
    return compute;
  }

  // On the watch's thread. MPI ends the process here; ranks that are threads fail at their next collective,
  // and what this rank waits for ends without a result.
  void GiveUp(const std::string& trouble) {
    if (comm_ == nullptr) {  // nothing wakes a thread that waits inside ncclCommInitRank
      std::fprintf(stderr, "%s: rank %d: %s\n", program_invocation_short_name, rank(), trouble.c_str());
      std::_Exit(1);
    }
    trouble_ = trouble;
    gave_up_ = true;
    ncclCommAbort(comm_);
    host_.Abort(Concat("rank ", rank(), ": ", trouble));
  }

  void CheckHere(const char* call, const Tensor& tensor) const {
    CheckMemory(call, tensor);
    Require(&tensor.device() == &device_, call, " was given a tensor on ", tensor.device().name(),
            " where one on ", device_.name(), " was expected.");
  }

  static bool AreEqual(const std::vector<int64_t>& rows) {
    return std::all_of(rows.begin(), rows.end(), [&](int64_t n) { return n == rows[0]; });
  }

  // Calls that are one operation for NCCL, so that they cannot wait for each other.
  template <class F>
  static void InGroup(const F& calls) {
    CheckNccl(ncclGroupStart(), "ncclGroupStart");
    calls();
    CheckNccl(ncclGroupEnd(), "ncclGroupEnd");
  }

  Communicator& host_;
  Device& device_;
  int uncaught_ = 0;     // exceptions in flight when it was made
  std::string trouble_;  // why the watch gave up; set before gave_up_ is
  std::atomic<bool> gave_up_{false};
  std::atomic<ncclComm_t> comm_{nullptr};
  cudaStream_t stream_ = nullptr;
  CudaEvent order_;
  std::unique_ptr<NcclWatch> watch_;
};

}  // namespace

std::unique_ptr<Communicator> NewGpuCommunicator(Communicator& host, Device& device, double patience) {
  if (host.size() == 1) return NewSelfCommunicator();
  return std::make_unique<NcclCommunicator>(host, device, patience);
}

}  // namespace crema
