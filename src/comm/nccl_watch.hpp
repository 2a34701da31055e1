// Floor 2, inside src/comm, used by nccl.cpp alone. Notices that collectives between GPUs fail or do not end:
// NCCL itself waits for ever for a rank that has died or hangs.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <nccl.h>

#include "crema/comm.hpp"
#include "crema/device.hpp"
#include "cuda/event.hpp"

namespace crema {

class NcclWatch {
 public:
  // Calls `fail` once, on a thread of its own, with a sentence, where the communicator or the host's reports
  // an error, or the ranks have not connected for `seconds` (0: for ever), or a collective has been the next
  // to end for so long, or the hosts have waited for each other.
  NcclWatch(Communicator& host, Device& device, double seconds, std::function<void(const std::string&)> fail);
  ~NcclWatch();
  NcclWatch(const NcclWatch&) = delete;

  // The ranks have found each other.
  void Connected(ncclComm_t comm);
  // A collective, `call` by name, is the last thing that the stream has been given.
  void Started(const char* call, cudaStream_t stream);
  // While it lives, this rank's host waits for the others'.
  class HostsWait {
   public:
    explicit HostsWait(NcclWatch& watch) : watch_(watch) { watch_.SetHostsWait(true); }
    ~HostsWait() { watch_.SetHostsWait(false); }
    HostsWait(const HostsWait&) = delete;

   private:
    NcclWatch& watch_;
  };

 private:
  struct Collective {
    const char* call;
    std::unique_ptr<CudaEvent> done;
  };
  void Run();
  void SetHostsWait(bool wait);
  std::string Look(double since_last);

  Communicator& host_;
  Device& device_;
  double seconds_;
  std::function<void(const std::string&)> fail_;
  std::mutex mutex_;  // of what follows
  ncclComm_t comm_ = nullptr;
  std::deque<Collective> under_way_;
  bool hosts_wait_ = false;
  double waited_ = 0;  // for the first of them, or for the hosts, or to connect
  bool stop_ = false;
  std::condition_variable stopping_;
  std::thread thread_;
};

}  // namespace crema
