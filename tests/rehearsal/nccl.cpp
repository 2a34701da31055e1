// A test tool. NCCL, as far as Crema calls it, over the imaginary GPUs of machine.hpp. Ranks may be threads
// or processes. All of them must call the same collectives with the same counts and types in the same order.
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "board.hpp"
#include "cudnn.hpp"
#include "objects.hpp"

struct ncclComm : rehearsal::Object {
  int rank = 0, size = 0, gpu = rehearsal::CurrentGpu();
  rehearsal::Board* board = nullptr;
  std::atomic<bool> aborted{false};
};

namespace {

using rehearsal::CollectiveCall;
using rehearsal::Fault;

enum Kind { kAllReduce = 1, kAllGather, kReduceScatter, kBroadcast, kReduce };
const char* NameOf(int kind) {
  const char* names[] = {"?",         "ncclAllReduce", "ncclAllGather", "ncclReduceScatter", "ncclBroadcast",
                         "ncclReduce"};
  return names[kind];
}

int64_t SizeOf(int type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclFloat32:
      return 4;
    case ncclFloat64:
    case ncclInt64:
      return 8;
    default:
      Fault("NCCL: element type " + std::to_string(type) + ", which the rehearsal does not know");
  }
}

std::string Describe(const CollectiveCall& call) {
  return std::string(NameOf(call.kind)) + " of " + std::to_string(call.count) + " elements of type " +
         std::to_string(call.type) + ", operation " + std::to_string(call.operation) + ", root " +
         std::to_string(call.root);
}

// --------------------------------------------------------------------------------- the GPUs' part, run later
template <class T>
void Fold(ncclRedOp_t operation, const void* from, void* to, int64_t count) {
  const T* x = static_cast<const T*>(from);
  T* y = static_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) {
    const auto a = static_cast<rehearsal::cudnn::Sum<T>>(x[i]),
               b = static_cast<rehearsal::cudnn::Sum<T>>(y[i]);
    y[i] = static_cast<T>(operation == ncclMax ? (a > b ? a : b) : b + a);
  }
}

// to = to and from together.
void Fold(const CollectiveCall& call, const void* from, void* to, int64_t count) {
  const auto operation = static_cast<ncclRedOp_t>(call.operation);
  switch (call.type) {
    case ncclFloat16:
      return Fold<_Float16>(operation, from, to, count);
    case ncclBfloat16:
      return Fold<rehearsal::cudnn::BFloat16>(operation, from, to, count);
    case ncclFloat32:
      return Fold<float>(operation, from, to, count);
    case ncclFloat64:
      return Fold<double>(operation, from, to, count);
    case ncclInt64:
      return Fold<int64_t>(operation, from, to, count);
    default:
      Fault(std::string(NameOf(call.kind)) + ": a reduction of type " + std::to_string(call.type) +
            ", which the rehearsal does not know");
  }
}

// One rank's part in a collective under way.
class Part {
 public:
  Part(ncclComm* comm, const CollectiveCall& call) : comm_(comm), board_(comm->board), call_(call) {}

  // Whether all ranks are here with the same call; a Fault where they are not the same.
  bool Begin() {
    board_->calls[comm_->rank] = call_;
    if (!Meet()) return false;
    for (int r = 0; r < comm_->size; ++r) {
      if (!(board_->calls[r] == call_))
        Fault("rank " + std::to_string(comm_->rank) + " called " + Describe(call_) + ", rank " +
              std::to_string(r) + " " + Describe(board_->calls[r]));
    }
    return Meet();
  }

  // What all ranks have at `send`, together, to `receive` of those who take it (null: not this rank).
  void Reduce(const char* send, char* receive, int64_t count) {
    InPieces(count, [&](int64_t at, int64_t bytes) {
      std::memcpy(Slot(comm_->rank), send + at, static_cast<size_t>(bytes));
      if (!Meet()) return false;
      if (receive != nullptr) {
        std::memcpy(receive + at, Slot(0), static_cast<size_t>(bytes));
        for (int r = 1; r < comm_->size; ++r) Fold(call_, Slot(r), receive + at, bytes / SizeOf(call_.type));
      }
      return Meet();
    });
  }

  // What rank `root` has at `send` to all others' `receive`.
  void Broadcast(const char* send, char* receive, int64_t count, int root) {
    InPieces(count, [&](int64_t at, int64_t bytes) {
      if (comm_->rank == root) std::memcpy(Slot(root), send + at, static_cast<size_t>(bytes));
      if (!Meet()) return false;
      std::memcpy(receive + at, Slot(root), static_cast<size_t>(bytes));
      return Meet();
    });
  }

 private:
  char* Slot(int rank) { return board_->slots[rank]; }
  bool Meet() { return rehearsal::Meet(board_, comm_->aborted); }

  template <class F>
  void InPieces(int64_t count, const F& piece) {
    const int64_t all = count * SizeOf(call_.type);
    for (int64_t at = 0; at < all; at += rehearsal::kSlotBytes) {
      if (!piece(at, std::min(rehearsal::kSlotBytes, all - at))) return;
    }
  }

  ncclComm* comm_;
  rehearsal::Board* board_;
  CollectiveCall call_;
};

void RunCollective(ncclComm* comm, const CollectiveCall& call, const char* send, char* receive) {
  Part part(comm, call);
  if (!part.Begin()) return;
  const int64_t step = call.count * SizeOf(call.type);
  switch (call.kind) {
    case kAllReduce:
      return part.Reduce(send, receive, call.count);
    case kReduce:
      return part.Reduce(send, comm->rank == call.root ? receive : nullptr, call.count);
    case kBroadcast:
      return part.Broadcast(send, receive, call.count, call.root);
    case kAllGather:
      for (int r = 0; r < comm->size; ++r) part.Broadcast(send, receive + r * step, call.count, r);
      return;
    default:
      for (int r = 0; r < comm->size; ++r)
        part.Reduce(send + r * step, comm->rank == r ? receive : nullptr, call.count);
  }
}

// ------------------------------------------------------------------------------------------- the calls
thread_local int group_depth = 0;
thread_local std::vector<std::function<void()>> group;

void CheckComm(ncclComm_t comm, const char* call) {
  rehearsal::Live(comm, call, "the communicator");
}

// Elements that a rank sends and receives.
struct Counts {
  int64_t send, receive;
};

ncclResult_t Call(ncclComm_t comm, cudaStream_t stream, const CollectiveCall& call, const void* send,
                  void* receive, const Counts& counts) {
  const char* name = NameOf(call.kind);
  CheckComm(comm, name);
  if (rehearsal::GpuOf(stream, name) != comm->gpu)
    Fault(std::string(name) + ": a stream of another GPU than the communicator's");
  const int64_t size = SizeOf(call.type);
  const char* from = static_cast<const char*>(send);
  char* to = static_cast<char*>(receive);
  if (counts.send > 0) rehearsal::CheckOnGpu(stream, name, "sendbuff", from, counts.send * size);
  if (counts.receive > 0) rehearsal::CheckOnGpu(stream, name, "recvbuff", to, counts.receive * size);
  for (const void* buffer : {send, static_cast<const void*>(receive)})
    rehearsal::CheckAligned(name, "a buffer", buffer, size);
  // In place is where the results go to where this rank's share of them came from; another overlap is
  // undefined.
  const bool in_place = call.kind == kAllGather       ? from == to + comm->rank * call.count * size
                        : call.kind == kReduceScatter ? to == from + comm->rank * call.count * size
                                                      : from == to;
  if (!in_place && counts.send > 0 && counts.receive > 0 &&
      rehearsal::Overlap(from, counts.send * size, to, counts.receive * size))
    Fault(std::string(name) + ": sendbuff and recvbuff overlap");
  const auto enqueue = [=] {
    rehearsal::Enqueue(stream, name, [=] { RunCollective(comm, call, from, to); });
  };
  if (group_depth > 0) {
    group.push_back(enqueue);
  } else {
    enqueue();
  }
  return ncclSuccess;
}

}  // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static_assert(sizeof(*id) >= 64);
  std::random_device random;
  const std::string name = "/crema-rehearsal-" + std::to_string(getpid()) + "-" + std::to_string(random());
  rehearsal::MakeBoard(name);
  *id = {};
  std::memcpy(id, name.c_str(), name.size() + 1);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  if (size < 1 || size > rehearsal::kMostRanks || rank < 0 || rank >= size) return ncclInvalidArgument;
  const char* hangs = std::getenv("CREMA_REHEARSAL_HANGING_RANK");
  while (hangs != nullptr && std::atoi(hangs) == rank) pause();
  *comm = rehearsal::Make<ncclComm>();
  (*comm)->rank = rank, (*comm)->size = size;
  (*comm)->board = rehearsal::JoinBoard(reinterpret_cast<const char*>(&id), size);
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  rehearsal::Destroy(comm, "ncclCommDestroy", "the communicator");
  return ncclSuccess;
}
// What is under way on this rank ends without a result.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  rehearsal::Destroy(comm, "ncclCommAbort", "the communicator");
  comm->aborted = true;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* status) {
  CheckComm(comm, "ncclCommGetAsyncError");
  *status = ncclSuccess;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t status) {
  return status == ncclInvalidUsage ? "invalid usage" : "an error of the rehearsal";
}
const char* ncclGetLastError(ncclComm_t) {
  return "";
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (group_depth == 0) return ncclInvalidUsage;
  if (--group_depth > 0) return ncclSuccess;
  for (const auto& call : group) call();
  group.clear();
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  const int64_t n = static_cast<int64_t>(count);
  return Call(comm, stream, {kAllReduce, type, operation, 0, n}, send, receive, {n, n});
}
ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  CheckComm(comm, "ncclAllGather");
  const int64_t n = static_cast<int64_t>(count);
  return Call(comm, stream, {kAllGather, type, 0, 0, n}, send, receive, {n, n * comm->size});
}
ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  CheckComm(comm, "ncclReduceScatter");
  const int64_t n = static_cast<int64_t>(count);
  return Call(comm, stream, {kReduceScatter, type, operation, 0, n}, send, receive, {n * comm->size, n});
}
ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  CheckComm(comm, "ncclBroadcast");
  const int64_t n = static_cast<int64_t>(count);
  return Call(comm, stream, {kBroadcast, type, 0, root, n}, send, receive, {comm->rank == root ? n : 0, n});
}
ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t comm, cudaStream_t stream) {
  CheckComm(comm, "ncclReduce");
  const int64_t n = static_cast<int64_t>(count);
  return Call(comm, stream, {kReduce, type, operation, root, n}, send, receive,
              {n, comm->rank == root ? n : 0});
}
