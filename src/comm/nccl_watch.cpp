#include "comm/nccl_watch.hpp"

#include <chrono>

namespace crema {

NcclWatch::NcclWatch(Communicator& host, Device& device, double seconds,
                     std::function<void(const std::string&)> fail)
    : host_(host), device_(device), seconds_(seconds), fail_(std::move(fail)), thread_([this] { Run(); }) {}

NcclWatch::~NcclWatch() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopping_.notify_one();
  thread_.join();
}

void NcclWatch::Connected(ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  comm_ = comm;
  waited_ = 0;
}

void NcclWatch::Started(const char* call, cudaStream_t stream) {
  Collective collective{call, std::make_unique<CudaEvent>()};
  collective.done->Record(stream);
  const std::lock_guard lock(mutex_);
  under_way_.push_back(std::move(collective));
}

void NcclWatch::SetHostsWait(bool wait) {
  const std::lock_guard lock(mutex_);
  hosts_wait_ = wait;
  waited_ = 0;
}

void NcclWatch::Run() {
  constexpr auto kPause = std::chrono::milliseconds(100);
  device_.Stream();  // makes the GPU this thread's
  std::string trouble;
  while (trouble.empty()) {
    std::unique_lock lock(mutex_);
    if (stopping_.wait_for(lock, kPause, [&] { return stop_; })) return;
    trouble = Look(std::chrono::duration<double>(kPause).count());
  }
  fail_(trouble);
}

// What is wrong; empty: nothing.
std::string NcclWatch::Look(double since_last) {
  const std::string trouble = host_.Trouble();
  if (!trouble.empty()) return trouble;
  waited_ += since_last;
  if (comm_ == nullptr) {
    if (seconds_ <= 0 || waited_ < seconds_) return "";
    return Concat("the ranks' GPUs have not connected (ncclCommInitRank) for ", seconds_,
                  " s: another rank hangs, or has ended");
  }
  ncclResult_t status = ncclSuccess;
  if (ncclCommGetAsyncError(comm_, &status) != ncclSuccess) status = ncclSystemError;
  const std::string first = under_way_.empty() ? "no collective" : under_way_.front().call;
  if (status != ncclSuccess && status != ncclInProgress)
    return Concat("NCCL failed with ", first, " under way: ", ncclGetErrorString(status), " (",
                  ncclGetLastError(comm_), ")");
  while (!under_way_.empty() && under_way_.front().done->HasCome()) {
    under_way_.pop_front();
    waited_ = 0;
  }
  if (under_way_.empty() && !hosts_wait_) waited_ = 0;
  if (seconds_ <= 0 || waited_ < seconds_) return "";
  const std::string waiting = under_way_.empty() ? "an exchange of numbers between the hosts"
                                                 : Concat(under_way_.front().call, " between the GPUs");
  return Concat(waiting, " has not ended for ", seconds_, " s: another rank hangs, or has ended");
}

}  // namespace crema
