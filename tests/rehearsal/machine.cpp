#include "machine.hpp"

#include <omp.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "memory.hpp"
#include "objects.hpp"

namespace rehearsal {

// A point in a stream: done when the stream has come to it.
struct Ticket {
  bool done = false;
};

struct Operation {
  std::function<void()> work;
  std::shared_ptr<Ticket> after;  // may be null; not to be started before it is done
};

}  // namespace rehearsal

struct CUstream_st : rehearsal::Object {
  int gpu = rehearsal::CurrentGpu();
  bool busy = false;
  bool closed = false;  // nothing comes any more
  std::deque<rehearsal::Operation> queue;
};

struct CUevent_st : rehearsal::Object {
  std::shared_ptr<rehearsal::Ticket> last;  // of the latest record; null before there was one
};

namespace rehearsal {
namespace {

int64_t Setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

// All GPUs of the process. One lock for everything: this is a test tool.
struct Machine {
  std::mutex mutex;
  std::condition_variable changed;  // something was enqueued, or done
  int waiting = 0;                  // host threads that wait
  uint64_t streams = 0;             // so far
  std::vector<std::unique_ptr<Memory>> gpus;
  int working = 0;  // streams' threads that need the memory to be open to all

  // Of a thread that begins to work, or rests, where memory is open to all threads or none.
  void Work(bool begins) {
    if (!OpensForAllThreads()) return;
    working += begins ? 1 : -1;
    if (working > 1 || (working == 1 && !begins)) return;
    for (const auto& gpu : gpus) gpu->SetAccess(begins);
  }
};

// Never destroyed: the streams' threads use it until the process ends.
Machine& TheMachine() {
  static Machine* machine = [] {
    auto* made = new Machine;
    for (int64_t k = 0; k < Setting("CREMA_REHEARSAL_GPUS", 4); ++k)
      made->gpus.push_back(std::make_unique<Memory>());
    return made;
  }();
  return *machine;
}

Memory& MemoryOf(cudaStream_t stream) {
  return *TheMachine().gpus[static_cast<size_t>(stream->gpu)];
}

thread_local int current_gpu = 0;
thread_local bool is_gpu_thread = false;

// What a crash in a GPU's memory means.
void ExplainCrash(int, siginfo_t* info, void*) {
  Machine& machine = TheMachine();
  for (size_t k = 0; k < machine.gpus.size(); ++k) {
    if (!machine.gpus[k]->Holds(info->si_addr)) continue;
    const char* start = nullptr;
    const Memory::Piece* piece = machine.gpus[k]->Find(info->si_addr, &start);
    char text[256];
    const int length =
        std::snprintf(text, sizeof(text),
                      "rehearsal: %s touched memory of GPU %zu%s, at byte %td of a piece of %td bytes\n",
                      is_gpu_thread ? "a kernel or library call" : "the host", k,
                      is_gpu_thread ? " that is not open (out of bounds, not yet allocated or freed)" : "",
                      piece != nullptr ? static_cast<const char*>(info->si_addr) - start : 0,
                      piece != nullptr ? static_cast<ptrdiff_t>(piece->bytes) : 0);
    if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) _exit(2);
    break;
  }
  signal(SIGSEGV, SIG_DFL);  // the access is tried again and ends the process as it would have
}

void WatchForCrashes() {
  struct sigaction action {};
  action.sa_sigaction = ExplainCrash;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
}

bool IsReady(const CUstream_st& stream) {
  if (stream.busy || stream.queue.empty()) return false;
  const Operation& next = stream.queue.front();
  return next.after == nullptr || next.after->done;
}

// A stream's thread. At random it waits a little before it goes on, so that streams run out of step.
void RunStream(Machine& machine, cudaStream_t stream, uint64_t seed) {
  OpenForThisThread();
  omp_set_num_threads(1);
  is_gpu_thread = true;
  std::mt19937_64 random(seed);
  std::unique_lock lock(machine.mutex);
  bool working = false;
  for (;;) {
    machine.changed.wait(lock, [&] { return IsReady(*stream) || stream->closed; });
    if (stream->closed) return;
    if (!working) machine.Work(true);
    working = true;
    if (random() % (machine.waiting == 0 ? 4 : 16) == 0)
      machine.changed.wait_for(lock, std::chrono::microseconds(random() % 500));
    for (uint64_t burst = 1 + random() % 6; burst > 0 && IsReady(*stream); --burst) {
      const Operation operation = std::move(stream->queue.front());
      stream->queue.pop_front();
      stream->busy = true;
      lock.unlock();
      if (operation.work) operation.work();
      lock.lock();
      stream->busy = false;
      working = IsReady(*stream);
      if (!working) machine.Work(false);
      machine.changed.notify_all();
    }
  }
}

void CheckStream(cudaStream_t stream, const char* call) {
  if (stream == nullptr) Fault(std::string(call) + ": the default stream; we use streams of our own");
  Live(stream, call, "the stream");
}

void Push(cudaStream_t stream, Operation operation) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  stream->queue.push_back(std::move(operation));
  machine.changed.notify_all();
}

thread_local int64_t waits_of_this_thread = 0;

template <class Done>
void HostWaits(Done done) {
  Machine& machine = TheMachine();
  std::unique_lock lock(machine.mutex);
  waits_of_this_thread += done() ? 0 : 1;
  ++machine.waiting;
  machine.changed.notify_all();
  machine.changed.wait(lock, done);
  --machine.waiting;
}

}  // namespace

void Fault(const std::string& what) {
  std::fprintf(stderr, "rehearsal: %s\n", what.c_str());
  std::fflush(stderr);
  std::abort();
}

int GpuCount() {
  return static_cast<int>(TheMachine().gpus.size());
}
int64_t MemoryOfGpu() {
  return Setting("CREMA_REHEARSAL_MEMORY_MB", 16384) << 20;
}
int64_t MemoryUsed(int gpu) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  return machine.gpus[static_cast<size_t>(gpu)]->used();
}
int64_t MostMemoryUsed(int gpu) {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  return machine.gpus[static_cast<size_t>(gpu)]->most_used();
}
int CurrentGpu() {
  return current_gpu;
}
void SetCurrentGpu(int gpu) {
  current_gpu = gpu;
}

int GpuOf(cudaStream_t stream, const char* call) {
  CheckStream(stream, call);
  return stream->gpu;
}

void Enqueue(cudaStream_t stream, const char* call, std::function<void()> work) {
  CheckStream(stream, call);
  if (stream->gpu != current_gpu)
    Fault(std::string(call) + ": on a stream of GPU " + std::to_string(stream->gpu) + " while GPU " +
          std::to_string(current_gpu) + " is the thread's own");
  Push(stream, {std::move(work), nullptr});
}

void CheckOnGpu(cudaStream_t stream, const char* call, const char* argument, const void* from,
                int64_t bytes) {
  CheckStream(stream, call);
  if (bytes == 0) return;
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  const Memory& memory = MemoryOf(stream);
  const auto complain = [&](const std::string& what) {
    Fault(std::string(call) + ": " + argument + " " + what);
  };
  if (!memory.Holds(from)) complain("is not in the memory of GPU " + std::to_string(stream->gpu));
  const char* start = nullptr;
  const Memory::Piece* piece = memory.Find(from, &start);
  if (piece == nullptr) complain("was never allocated");
  if (piece->freed) complain("is freed memory");
  const int64_t at = static_cast<const char*>(from) - start;
  if (bytes < 0 || at + bytes > piece->bytes)
    complain("wants bytes " + std::to_string(at) + " to " + std::to_string(at + bytes) + " of a piece of " +
             std::to_string(piece->bytes));
}

bool IsOnGpu(const void* address) {
  const auto& gpus = TheMachine().gpus;
  return std::any_of(gpus.begin(), gpus.end(), [&](const auto& gpu) { return gpu->Holds(address); });
}

void CheckOnHost(const char* call, const char* argument, const void* address) {
  if (address == nullptr) Fault(std::string(call) + ": " + argument + " is null");
  if (IsOnGpu(address))
    Fault(std::string(call) + ": " + argument + " is in a GPU's memory where the host's was expected");
}

void CheckAligned(const char* call, const char* argument, const void* address, int64_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(bytes) != 0)
    Fault(std::string(call) + ": " + argument + " is not aligned to " + std::to_string(bytes) + " bytes");
}

bool Overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const char *at_a = static_cast<const char*>(a), *at_b = static_cast<const char*>(b);
  return at_a < at_b + b_bytes && at_b < at_a + a_bytes;
}

cudaStream_t NewStream() {
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  if (machine.streams == 0) WatchForCrashes();
  const cudaStream_t stream = Make<CUstream_st>();
  const uint64_t seed = static_cast<uint64_t>(Setting("CREMA_REHEARSAL_SEED", 0)) << 32 | ++machine.streams;
  std::thread([&machine, stream, seed] { RunStream(machine, stream, seed); }).detach();
  return stream;
}

// What it was given before is still done, as CUDA says.
void DestroyStream(cudaStream_t stream) {
  Synchronize(stream);
  Machine& machine = TheMachine();
  const std::lock_guard lock(machine.mutex);
  stream->closed = true;
  Destroy(stream, "cudaStreamDestroy", "the stream");
  machine.changed.notify_all();
}

void Synchronize(cudaStream_t stream) {
  CheckStream(stream, "cudaStreamSynchronize");
  HostWaits([&] { return stream->queue.empty() && !stream->busy; });
}

int64_t WaitsOfThisThread() {
  return waits_of_this_thread;
}

cudaEvent_t NewEvent() {
  return Make<CUevent_st>();
}
void DestroyEvent(cudaEvent_t event) {
  Destroy(event, "cudaEventDestroy", "the event");
}
void Record(cudaEvent_t event, cudaStream_t stream) {
  Live(event, "cudaEventRecord", "the event");
  CheckStream(stream, "cudaEventRecord");
  const auto ticket = std::make_shared<Ticket>();
  Push(stream, {[ticket] {
                  const std::lock_guard lock(TheMachine().mutex);
                  ticket->done = true;
                },
                nullptr});
  event->last = ticket;
}
void WaitFor(cudaStream_t stream, cudaEvent_t event) {
  Live(event, "cudaStreamWaitEvent", "the event");
  CheckStream(stream, "cudaStreamWaitEvent");
  if (event->last != nullptr) Push(stream, {nullptr, event->last});
}
void Synchronize(cudaEvent_t event) {
  Live(event, "cudaEventSynchronize", "the event");
  if (event->last == nullptr) return;
  HostWaits([ticket = event->last] { return ticket->done; });
}
bool HasCome(cudaEvent_t event) {
  Live(event, "cudaEventQuery", "the event");
  const std::lock_guard lock(TheMachine().mutex);
  return event->last == nullptr || event->last->done;
}

void* Allocate(cudaStream_t stream, int64_t bytes) {
  CheckStream(stream, "cudaMallocAsync");
  Memory& memory = MemoryOf(stream);
  void* piece = nullptr;
  {
    const std::lock_guard lock(TheMachine().mutex);
    if (memory.used() + bytes > MemoryOfGpu()) return nullptr;
    piece = memory.Reserve(bytes);
  }
  Enqueue(stream, "cudaMallocAsync", [&memory, piece] {
    const std::lock_guard lock(TheMachine().mutex);
    memory.Open(piece);
  });
  return piece;
}

void Free(cudaStream_t stream, void* piece) {
  CheckStream(stream, "cudaFreeAsync");
  Memory& memory = MemoryOf(stream);
  {
    const std::lock_guard lock(TheMachine().mutex);
    memory.MarkFreed(piece);
  }
  Enqueue(stream, "cudaFreeAsync", [&memory, piece] {
    const std::lock_guard lock(TheMachine().mutex);
    memory.Close(piece);
  });
}

}  // namespace rehearsal
