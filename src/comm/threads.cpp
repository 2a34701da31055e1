// Ranks as threads of one process. A collective is: post what this rank brings, wait for all, work on
// everybody's memory, wait for all. Between the two waits each rank writes only what no other touches, so no
// further locks are needed. A rank that fails wakes the others, whose collectives throw.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "comm/checks.hpp"
#include "comm/host.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace crema {
namespace {

// What one rank brings to a collective.
struct Post {
  std::string call;  // "AllReduce (sum) of 5 elements of f32": equal on all ranks
  const void* input = nullptr;
  void* output = nullptr;
};

class Job {
 public:
  explicit Job(int ranks) : posts_(static_cast<size_t>(ranks)) {}
  int ranks() const { return static_cast<int>(posts_.size()); }
  const Post& post(int rank) const { return posts_[static_cast<size_t>(rank)]; }

  // Waits until every rank has posted; throws Error if they do not agree on the call.
  void Begin(int rank, Post mine) {
    posts_[static_cast<size_t>(rank)] = std::move(mine);
    Meet(rank);
    for (int r = 1; r < ranks(); ++r) {
      Require(post(r).call == post(0).call, "rank 0 called ", post(0).call, " while rank ", r, " called ",
              post(r).call, ".");
    }
  }
  // Waits until every rank has done its part.
  void End(int rank) { Meet(rank); }

  // Records a failure, unless it is a consequence of an earlier one, and wakes everybody.
  void Fail(int rank, std::exception_ptr failure, const std::string& message) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) {
      failure_ = failure;
      reason_ = Concat("rank ", rank, " failed: ", message);
    }
    changed_.notify_all();
  }
  void Leave(int rank) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (left_ < 0) left_ = rank;
    changed_.notify_all();
  }
  std::exception_ptr failure() const { return failure_; }

 private:
  void Meet(int rank) {
    std::unique_lock<std::mutex> lock(mutex_);
    ThrowIfBroken(rank);
    const int64_t meeting = meeting_;
    if (++arrived_ == ranks()) {
      arrived_ = 0;
      ++meeting_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return meeting_ != meeting || failure_ || left_ >= 0; });
    if (meeting_ == meeting) ThrowIfBroken(rank);
  }
  void ThrowIfBroken(int rank) const {
    if (failure_) throw Error(reason_);
    if (left_ >= 0) {
      crema::Fail("rank ", rank, " called ", post(rank).call, " after rank ", left_, " had ended.");
    }
  }

  std::vector<Post> posts_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  int64_t meeting_ = 0;
  int left_ = -1;  // the first rank whose body returned
  std::exception_ptr failure_;
  std::string reason_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Job& job, int rank) : job_(job), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return job_.ranks(); }

  void AllReduce(Tensor* tensor, Reduce op) override {
    CheckOnHost("AllReduce", *tensor);
    CheckReducible("AllReduce", *tensor);
    job_.Begin(rank_, {CallOfReduction(op, *tensor), tensor->raw(), tensor->raw()});
    // Each rank makes its share of the elements, for everybody.
    const int64_t count = tensor->count(), element = SizeOf(tensor->dtype());
    const int64_t begin = count * rank_ / size(), end = count * (rank_ + 1) / size();
    char* share = static_cast<char*>(tensor->raw()) + begin * element;
    CombineRanks(tensor->dtype(), op, Inputs(), begin, end - begin, share);
    for (int r = 0; r < size(); ++r) {
      if (r == rank_ || begin == end) continue;
      std::memcpy(static_cast<char*>(job_.post(r).output) + begin * element, share,
                  static_cast<size_t>((end - begin) * element));
    }
    job_.End(rank_);
  }

  std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) override {
    return ReduceCopy(*this, *tensor, op);
  }

  void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) override {
    CheckOnHost("AllGather", mine);
    CheckOnHost("AllGather", *all);
    CheckRows("AllGather", *this, rows, mine, *all);
    GatherParts(CallOnRows("AllGather", rows, *all), mine.raw(), rows, RowBytes(*all), all->raw());
  }

  void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) override {
    CheckOnHost("ReduceScatter", all);
    CheckOnHost("ReduceScatter", *mine);
    CheckReducible("ReduceScatter", all);
    CheckRows("ReduceScatter", *this, rows, *mine, all);
    job_.Begin(rank_, {CallOnRows("ReduceScatter", rows, all), all.raw()});
    const int64_t row = RowBytes(all) / SizeOf(all.dtype());
    int64_t begin = 0;
    for (int r = 0; r < rank_; ++r) begin += rows[static_cast<size_t>(r)] * row;
    CombineRanks(all.dtype(), Reduce::kSum, Inputs(), begin, mine->count(), mine->raw());
    job_.End(rank_);
  }

  void Broadcast(Tensor* tensor, int root) override {
    CheckOnHost("Broadcast", *tensor);
    CheckRoot("Broadcast", *this, root);
    job_.Begin(rank_, {CallOfBroadcast(root, *tensor), tensor->raw()});
    if (rank_ != root && tensor->count() > 0) {
      std::memcpy(tensor->raw(), job_.post(root).input, static_cast<size_t>(tensor->bytes()));
    }
    job_.End(rank_);
  }

  void Barrier() override {
    job_.Begin(rank_, {"Barrier"});
    job_.End(rank_);
  }

  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override {
    CheckNumbers(*this, mine, counts);
    std::vector<int64_t> all(static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0})));
    GatherParts(CallOfNumbers(counts), mine.data(), counts, sizeof(int64_t), all.data());
    return all;
  }

  void Abort(const std::string& message) override {
    job_.Fail(rank_, std::make_exception_ptr(Error(message)), message);
  }

 private:
  // All ranks' parts, rows[r] * row bytes of rank r, one after another.
  void GatherParts(const std::string& call, const void* mine, const std::vector<int64_t>& rows, int64_t row,
                   void* all) {
    job_.Begin(rank_, {call, mine});
    char* to = static_cast<char*>(all);
    for (int r = 0; r < size(); ++r) {
      const int64_t bytes = rows[static_cast<size_t>(r)] * row;
      if (bytes > 0) std::memcpy(to, job_.post(r).input, static_cast<size_t>(bytes));
      to += bytes;
    }
    job_.End(rank_);
  }

  std::vector<const void*> Inputs() const {
    std::vector<const void*> inputs;
    for (int r = 0; r < size(); ++r) inputs.push_back(job_.post(r).input);
    return inputs;
  }

  Job& job_;
  int rank_;
};

void RunOneRank(Job& job, int rank, [[maybe_unused]] int threads,
                const std::function<void(Communicator&)>& body) {
#ifdef _OPENMP
  omp_set_num_threads(threads);  // of this thread only; the ranks share the machine
#endif
  try {
    ThreadCommunicator comm(job, rank);
    body(comm);
    job.Leave(rank);
  } catch (const std::exception& e) {
    job.Fail(rank, std::current_exception(), e.what());
  } catch (...) {
    job.Fail(rank, std::current_exception(), "an unknown exception");
  }
}

}  // namespace

void RunRanks(int ranks, const std::function<void(Communicator&)>& body) {
  Require(ranks > 0, "RunRanks was asked for ", ranks, " ranks where 1 or more were expected.");
  int threads = 1;
#ifdef _OPENMP
  threads = std::max(1, omp_get_max_threads() / ranks);
#endif
  Job job(ranks);
  std::vector<std::thread> all;
  for (int r = 0; r < ranks; ++r)
    all.emplace_back([&job, r, threads, &body] { RunOneRank(job, r, threads, body); });
  for (std::thread& thread : all) thread.join();
  if (job.failure()) std::rethrow_exception(job.failure());
}

}  // namespace crema
