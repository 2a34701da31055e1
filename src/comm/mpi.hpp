// Floor 2, inside src/comm. Communicator over the processes of an MPI job. Called by NewMpiCommunicator and
// tests.
#pragma once

// The C interface alone; the C++ one is withdrawn.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <list>
#include <map>
#include <utility>

#include "crema/comm.hpp"

namespace crema {

class MpiCommunicator final : public Communicator {
 public:
  // MPI counts are 32 bit: a longer collective is made of several of at most so many elements.
  static constexpr int64_t kMaxCount = int64_t{1} << 30;

  // Initialises MPI unless that is done already; the one that initialised it finalises it.
  MpiCommunicator(int* argc, char*** argv, int64_t max_count = kMaxCount);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void AllReduce(Tensor* tensor, Reduce op) override;
  std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) override;
  void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) override;
  void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) override;
  void Broadcast(Tensor* tensor, int root) override;
  void Barrier() override;
  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override;
  void Abort(const std::string& message) override;

 private:
  struct Reduction;  // requests under way and the tensor they write
  struct PendingReduction;
  void GatherParts(const void* mine, const std::vector<int64_t>& rows, int64_t bytes, void* all);
  MPI_Op OpOf(DType dtype, Reduce op) const;

  bool owns_mpi_ = false;
  int uncaught_ = 0;  // exceptions in flight when it was made
  int64_t max_count_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::map<std::pair<DType, Reduce>, MPI_Op> narrow_ops_;  // of the types that MPI has no numbers of
  int rank_ = 0, size_ = 1;
  std::list<Reduction> unfinished_;  // whose Pending was dropped without Wait()
};

}  // namespace crema
