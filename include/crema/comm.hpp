// Floor 2. Communicator: collectives over the ranks of a job. Called by layers, solver and tools.
// Every rank calls the same collectives in the same order with the same types. Collectives sum; nothing here
// or above divides by the number of ranks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "crema/tensor.hpp"

namespace crema {

enum class Reduce { kSum, kMax };

// A collective under way; Wait() returns when the tensor holds its result.
class Pending {
 public:
  virtual ~Pending() = default;
  virtual void Wait() = 0;
};

// A collective that a step needs; for the plan of a run.
struct Collective {
  enum class Kind { kAllReduce, kAllGather, kReduceScatter };
  Kind kind;
  std::string what;   // that travels: "embeddings"
  int64_t bytes = 0;  // of the tensor that holds all of it
};
// What each of so many ranks sends, and receives, in a ring, whose traffic per rank is the least possible.
int64_t SentBytes(const Collective& collective, int ranks);

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool root() const { return rank() == 0; }

  // In place, element by element; f32, f64, bf16, f16 or i64.
  virtual void AllReduce(Tensor* tensor, Reduce op) = 0;
  // The same, started now; the tensor must not be touched before Wait().
  virtual std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) = 0;
  // `all` is the ranks' `mine`, one after another along axis 0; rank r gives rows[r] rows.
  virtual void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) = 0;
  // The inverse with a sum: `all` is added over the ranks and rank r keeps its rows[r] rows in `mine`.
  virtual void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) = 0;
  virtual void Broadcast(Tensor* tensor, int root) = 0;
  virtual void Barrier() = 0;
  // One number of each rank, in rank order.
  virtual std::vector<int64_t> AllGatherNumber(int64_t number) = 0;
  // Ends the whole job after a failure of this rank: no other rank may hang in a collective. Threads: the
  // others' collectives throw Error. MPI: does not return.
  virtual void Abort(const std::string& message) = 0;
};

// The only rank.
std::unique_ptr<Communicator> NewSelfCommunicator();

// Rank 0 of a job of so many ranks that all do alike, of which there are none: to plan a run. Numbers are
// gathered as if every rank had given the same; collectives on tensors throw Error.
std::unique_ptr<Communicator> NewImaginedCommunicator(int ranks);

// Runs `body` on `ranks` threads of this process, each a rank; for tests. Rethrows the first failure.
void RunRanks(int ranks, const std::function<void(Communicator&)>& body);

// The processes that mpirun or srun started; a single process without a launcher is one rank. Initialises
// MPI; the destructor finalises it. At most one per process.
std::unique_ptr<Communicator> NewMpiCommunicator(int* argc, char*** argv);

// The same ranks, with tensors on a GPU each, through NCCL. `host` carries what NCCL needs to start and
// single numbers; it and the device outlive the result. Where a collective fails, or has been the next to end
// for `patience` seconds (0: for ever), the job ends as by Abort().
constexpr double kGpuPatience = 600;
std::unique_ptr<Communicator> NewGpuCommunicator(Communicator& host, Device& device,
                                                 double patience = kGpuPatience);

// The ranks on this machine: how many of them come before this one, and how many there are. A collective.
struct LocalRanks {
  int before = 0, count = 1;
};
LocalRanks LocalRanksOf(Communicator& comm);

}  // namespace crema
