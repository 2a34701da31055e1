#include "comm/mpi.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>

#include "comm/checks.hpp"
#include "comm/combine.hpp"

namespace crema {
namespace {

void CheckMpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  Fail(call, " failed: ", std::string(text, static_cast<size_t>(length)), ".");
}

MPI_Datatype TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI64:
      return MPI_INT64_T;
    case DType::kBF16:
    case DType::kF16:
      return MPI_UINT16_T;
    default:
      return MPI_BYTE;
  }
}

// An MPI operation on numbers of 16 bits, which MPI does not know: both = both and in, together.
template <class T, Reduce op>
void CombineNarrow(void* in, void* both, int* count, MPI_Datatype*) {
  const T* x = static_cast<const T*>(in);
  T* y = static_cast<T*>(both);
  for (int i = 0; i < *count; ++i) y[i] = T(Combine(op, static_cast<float>(y[i]), static_cast<float>(x[i])));
}

MPI_Op NewOp(MPI_User_function* function) {
  MPI_Op op = MPI_OP_NULL;
  CheckMpi(MPI_Op_create(function, 1, &op), "MPI_Op_create");
  return op;
}

// f(first, count) over pieces of at most `most` of `total`.
template <class F>
void ForPieces(int64_t total, int64_t most, const F& f) {
  for (int64_t first = 0; first < total; first += most)
    f(first, static_cast<int>(std::min(most, total - first)));
}

// An MPI type of so many bytes in a row.
class RowType {
 public:
  explicit RowType(int64_t bytes) {
    Require(bytes < (int64_t{1} << 31), "AllGather was given rows of ", bytes,
            " bytes where fewer than 2147483648 were expected.");
    CheckMpi(MPI_Type_contiguous(static_cast<int>(bytes), MPI_BYTE, &type_), "MPI_Type_contiguous");
    CheckMpi(MPI_Type_commit(&type_), "MPI_Type_commit");
  }
  ~RowType() { MPI_Type_free(&type_); }
  RowType(const RowType&) = delete;
  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_;
};

}  // namespace

struct MpiCommunicator::Reduction {
  Tensor tensor;
  std::vector<MPI_Request> requests;

  void Wait() {
    CheckMpi(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
             "MPI_Waitall");
    requests.clear();
  }
};

struct MpiCommunicator::PendingReduction final : Pending {
  PendingReduction(MpiCommunicator& owner, Reduction started) : comm(owner), reduction(std::move(started)) {}
  // MPI goes on writing to the memory, so the communicator keeps what nobody waited for.
  ~PendingReduction() override {
    if (!reduction.requests.empty()) comm.unfinished_.push_back(std::move(reduction));
  }
  void Wait() override { reduction.Wait(); }

  MpiCommunicator& comm;
  Reduction reduction;
};

MpiCommunicator::MpiCommunicator(int* argc, char*** argv, int64_t max_count)
    : uncaught_(std::uncaught_exceptions()), max_count_(max_count) {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (!initialised) {
    int level = 0;
    CheckMpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
    owns_mpi_ = true;
    Require(level >= MPI_THREAD_FUNNELED, "This MPI library cannot be used by a program with threads.");
  }
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  narrow_ops_ = {{{DType::kBF16, Reduce::kSum}, NewOp(CombineNarrow<BFloat16, Reduce::kSum>)},
                 {{DType::kBF16, Reduce::kMax}, NewOp(CombineNarrow<BFloat16, Reduce::kMax>)},
                 {{DType::kF16, Reduce::kSum}, NewOp(CombineNarrow<Float16, Reduce::kSum>)},
                 {{DType::kF16, Reduce::kMax}, NewOp(CombineNarrow<Float16, Reduce::kMax>)}};
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

MpiCommunicator::~MpiCommunicator() {
  // The other ranks may be inside a collective that this one will never join.
  if (std::uncaught_exceptions() > uncaught_) Abort(Concat("rank ", rank_, " was stopped by an exception."));
  for (Reduction& reduction : unfinished_) {
    MPI_Waitall(static_cast<int>(reduction.requests.size()), reduction.requests.data(), MPI_STATUSES_IGNORE);
  }
  for (auto& [key, op] : narrow_ops_) MPI_Op_free(&op);
  MPI_Comm_free(&comm_);
  if (owns_mpi_) MPI_Finalize();
}

MPI_Op MpiCommunicator::OpOf(DType dtype, Reduce op) const {
  const auto narrow = narrow_ops_.find({dtype, op});
  if (narrow != narrow_ops_.end()) return narrow->second;
  return op == Reduce::kSum ? MPI_SUM : MPI_MAX;
}

void MpiCommunicator::AllReduce(Tensor* tensor, Reduce op) {
  CheckOnHost("AllReduce", *tensor);
  CheckReducible("AllReduce", *tensor);
  char* data = static_cast<char*>(tensor->raw());
  ForPieces(tensor->count(), max_count_, [&](int64_t first, int count) {
    CheckMpi(MPI_Allreduce(MPI_IN_PLACE, data + first * SizeOf(tensor->dtype()), count,
                           TypeOf(tensor->dtype()), OpOf(tensor->dtype(), op), comm_),
             "MPI_Allreduce");
  });
}

std::unique_ptr<Pending> MpiCommunicator::StartAllReduce(Tensor* tensor, Reduce op) {
  CheckOnHost("StartAllReduce", *tensor);
  CheckReducible("StartAllReduce", *tensor);
  Reduction reduction{*tensor, {}};
  char* data = static_cast<char*>(tensor->raw());
  ForPieces(tensor->count(), max_count_, [&](int64_t first, int count) {
    MPI_Request request;
    CheckMpi(MPI_Iallreduce(MPI_IN_PLACE, data + first * SizeOf(tensor->dtype()), count,
                            TypeOf(tensor->dtype()), OpOf(tensor->dtype(), op), comm_, &request),
             "MPI_Iallreduce");
    reduction.requests.push_back(request);
  });
  return std::make_unique<PendingReduction>(*this, std::move(reduction));
}

void MpiCommunicator::AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) {
  CheckOnHost("AllGather", mine);
  CheckOnHost("AllGather", *all);
  CheckRows("AllGather", *this, rows, mine, *all);
  GatherParts(mine.raw(), rows, RowBytes(*all), all->raw());
}

// All ranks' parts, rows[r] rows of so many bytes of rank r, one after another.
void MpiCommunicator::GatherParts(const void* mine, const std::vector<int64_t>& rows, int64_t bytes,
                                  void* all) {
  const int64_t longest = *std::max_element(rows.begin(), rows.end());
  if (longest * bytes == 0) return;
  RowType row(bytes);
  const int64_t most = std::max<int64_t>(1, max_count_ / (bytes * size_));  // rows of each rank in one call
  std::vector<int> counts(rows.size()), starts(rows.size());
  ForPieces(longest, most, [&](int64_t first, int) {
    int64_t start = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      counts[r] = static_cast<int>(std::clamp<int64_t>(rows[r] - first, 0, most));
      starts[r] = static_cast<int>(start + std::min(first, rows[r]));
      start += rows[r];
    }
    const size_t me = static_cast<size_t>(rank_);
    const char* from = static_cast<const char*>(mine) + std::min(first, rows[me]) * bytes;
    CheckMpi(MPI_Allgatherv(from, counts[me], row.get(), all, counts.data(), starts.data(), row.get(), comm_),
             "MPI_Allgatherv");
  });
}

void MpiCommunicator::ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) {
  CheckOnHost("ReduceScatter", all);
  CheckOnHost("ReduceScatter", *mine);
  CheckReducible("ReduceScatter", all);
  CheckRows("ReduceScatter", *this, rows, *mine, all);
  const MPI_Datatype type = TypeOf(all.dtype());
  const int64_t size = SizeOf(all.dtype()), row = RowBytes(all) / size;
  if (all.count() <= max_count_) {
    std::vector<int> counts;
    for (int64_t n : rows) counts.push_back(static_cast<int>(n * row));
    CheckMpi(MPI_Reduce_scatter(all.raw(), mine->raw(), counts.data(), type, OpOf(all.dtype(), Reduce::kSum),
                                comm_),
             "MPI_Reduce_scatter");
    return;
  }
  // Too long for one call: each rank's rows are summed to it in pieces.
  const char* from = static_cast<const char*>(all.raw());
  for (int r = 0; r < size_; ++r) {
    const int64_t elements = rows[static_cast<size_t>(r)] * row;
    ForPieces(elements, max_count_, [&](int64_t first, int count) {
      void* to = r == rank_ ? static_cast<char*>(mine->raw()) + first * size : nullptr;
      CheckMpi(MPI_Reduce(from + first * size, to, count, type, OpOf(all.dtype(), Reduce::kSum), r, comm_),
               "MPI_Reduce");
    });
    from += elements * size;
  }
}

void MpiCommunicator::Broadcast(Tensor* tensor, int root) {
  CheckOnHost("Broadcast", *tensor);
  CheckRoot("Broadcast", *this, root);
  char* data = static_cast<char*>(tensor->raw());
  ForPieces(tensor->bytes(), max_count_, [&](int64_t first, int count) {
    CheckMpi(MPI_Bcast(data + first, count, MPI_BYTE, root, comm_), "MPI_Bcast");
  });
}

void MpiCommunicator::Barrier() {
  CheckMpi(MPI_Barrier(comm_), "MPI_Barrier");
}

std::vector<int64_t> MpiCommunicator::AllGatherNumbers(const std::vector<int64_t>& mine,
                                                       const std::vector<int64_t>& counts) {
  CheckNumbers(*this, mine, counts);
  std::vector<int64_t> all(static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0})));
  GatherParts(mine.data(), counts, sizeof(int64_t), all.data());
  return all;
}

void MpiCommunicator::Abort(const std::string& message) {
  std::string line = message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  std::fflush(stdout);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::_Exit(1);  // MPI_Abort has not returned in any library we know of
}

std::unique_ptr<Communicator> NewMpiCommunicator(int* argc, char*** argv) {
  return std::make_unique<MpiCommunicator>(argc, argv);
}

}  // namespace crema
