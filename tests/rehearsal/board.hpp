// A test tool. What the ranks of one NCCL communicator share, threads or processes: a piece of named memory
// with a meeting point, a note of what each rank is about to do, and a slot each for data on their way.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace rehearsal {

constexpr int kMostRanks = 16;
constexpr int64_t kSlotBytes = 1 << 18;

// A collective, as a rank called it.
struct CollectiveCall {
  int kind = 0, type = 0, operation = 0, root = 0;
  int64_t count = 0;
  bool operator==(const CollectiveCall&) const = default;
};

struct Board {
  pthread_mutex_t mutex;
  pthread_cond_t met;
  int size, joined, arrived;
  int64_t generation;
  CollectiveCall calls[kMostRanks];
  alignas(64) char slots[kMostRanks][kSlotBytes];
};

// Makes the memory of a communicator; `name` is how to find it.
void MakeBoard(const std::string& name);
// Waits until all ranks have joined; the name is free then.
Board* JoinBoard(const std::string& name, int size);
// Until all ranks are here; false where `aborted` became true meanwhile.
bool Meet(Board* board, const std::atomic<bool>& aborted);

}  // namespace rehearsal
