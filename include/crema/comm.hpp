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
  // The hosts' own numbers, counts[r] of rank r, in rank order. No GPU is waited for.
  virtual std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                                const std::vector<int64_t>& counts) = 0;
  // One of each rank. Of GPUs' ranks, the one that is not watched: some rank may be writing files meanwhile.
  virtual std::vector<int64_t> AllGatherNumber(int64_t number) {
    return AllGatherNumbers({number}, std::vector<int64_t>(static_cast<size_t>(size()), 1));
  }
  // Ends the whole job after a failure of this rank: no other rank may hang in a collective. Threads and TCP:
  // the others' collectives throw Error. MPI: does not return.
  virtual void Abort(const std::string& message) = 0;
  // Why collectives can no longer succeed, as far as this rank can know without waiting; empty: nothing is
  // known. For a thread that watches while the collectives' own thread waits for something else.
  virtual std::string Trouble() { return {}; }
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

// Processes that nothing but a network connects: rank 0 listens on `port`, the others find it at `address`, a
// name or a number of IPv4 or IPv6. Returns when all are there; throws Error on every rank that came where
// one has not come within `patience` seconds or does not fit. All that is exchanged goes through rank 0,
// meant for numbers and what NCCL needs to start, and does for small trainings on CPUs; sums are made in rank
// order. A rank that ends before the others do makes their collectives throw Error. Abort() writes its
// message to stderr as well. The destructor waits for the other ranks.
constexpr double kTcpPatience = 60;
std::unique_ptr<Communicator> NewTcpCommunicator(int rank, int size, const std::string& address, int port,
                                                 double patience = kTcpPatience);

// Whether this process was started as one of several ranks without MPI: RANK, WORLD_SIZE, MASTER_ADDR and
// MASTER_PORT are set and no launcher of MPI has set its own variables, which would come first. Throws Error
// where some are missing or make no sense.
bool IsTcpRank();
// Whether MPI's mpirun, srun or another launcher that speaks PMI or PMIx has started this process.
bool IsMpiRank();
// The ranks as whatever started this process has made them: by TCP where IsTcpRank(), by MPI otherwise.
std::unique_ptr<Communicator> NewProcessCommunicator(int* argc, char*** argv);

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
