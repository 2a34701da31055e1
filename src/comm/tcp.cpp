// Ranks as processes that TCP connects, each with rank 0, which does the work of every collective: it takes
// in what the others bring, and sends each of them what is its.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iterator>
#include <numeric>

#include "comm/checks.hpp"
#include "comm/host.hpp"
#include "comm/star.hpp"

namespace crema {
namespace {

class TcpCommunicator final : public Communicator {
 public:
  TcpCommunicator(int rank, int size, const std::string& address, int port, double patience)
      : star_(rank, size, address, port, patience), uncaught_(std::uncaught_exceptions()) {}

  // As long as others go on, this one must be there, or it would be missed.
  ~TcpCommunicator() override {
    if (star_.broken()) return;
    if (std::uncaught_exceptions() > uncaught_) {
      Abort(Concat("rank ", rank(), " was stopped by an exception."));
      return;
    }
    try {
      star_.Exchange("the end of the job", {}, {});
    } catch (const std::exception&) {  // the others report it
    }
  }

  int rank() const override { return star_.rank(); }
  int size() const override { return star_.size(); }

  void AllReduce(Tensor* tensor, Reduce op) override {
    CheckOnHost("AllReduce", *tensor);
    CheckReducible("AllReduce", *tensor);
    ReduceTo(kAll, CallOfReduction(op, *tensor), op, tensor->dtype(), tensor->raw(), tensor->count(),
             tensor->raw());
  }

  std::unique_ptr<Pending> StartAllReduce(Tensor* tensor, Reduce op) override {
    return ReduceCopy(*this, *tensor, op);
  }

  void AllGather(const Tensor& mine, const std::vector<int64_t>& rows, Tensor* all) override {
    CheckOnHost("AllGather", mine);
    CheckOnHost("AllGather", *all);
    CheckRows("AllGather", *this, rows, mine, *all);
    GatherParts(CallOnRows("AllGather", rows, *all), {mine.raw(), mine.bytes()}, rows, RowBytes(*all),
                {all->raw(), all->bytes()});
  }

  void ReduceScatter(const Tensor& all, const std::vector<int64_t>& rows, Tensor* mine) override {
    CheckOnHost("ReduceScatter", all);
    CheckOnHost("ReduceScatter", *mine);
    CheckReducible("ReduceScatter", all);
    CheckRows("ReduceScatter", *this, rows, *mine, all);
    const std::string call = CallOnRows("ReduceScatter", rows, all);
    const char* from = static_cast<const char*>(all.raw());
    for (int r = 0; r < size(); ++r) {
      const int64_t bytes = rows[static_cast<size_t>(r)] * RowBytes(all);
      ReduceTo(r, call, Reduce::kSum, all.dtype(), from, bytes / SizeOf(all.dtype()), mine->raw());
      from += bytes;
    }
  }

  void Broadcast(Tensor* tensor, int root) override {
    CheckOnHost("Broadcast", *tensor);
    CheckRoot("Broadcast", *this, root);
    const Sent full{tensor->raw(), tensor->bytes()};
    const Received place{tensor->raw(), tensor->bytes()};
    star_.Exchange(
        CallOfBroadcast(root, *tensor), rank() == root ? full : Sent{}, rank() == root ? Received{} : place,
        [&](int r) { return r == root ? place : Received{}; }, [] {},
        [&](int r) { return r == root ? Sent{} : full; });
  }

  void Barrier() override { star_.Exchange("Barrier", {}, {}); }

  std::vector<int64_t> AllGatherNumbers(const std::vector<int64_t>& mine,
                                        const std::vector<int64_t>& counts) override {
    CheckNumbers(*this, mine, counts);
    std::vector<int64_t> all(static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0})));
    GatherParts(CallOfNumbers(counts), {mine.data(), BytesOf(mine)}, counts, sizeof(int64_t),
                {all.data(), BytesOf(all)});
    return all;
  }

  void Abort(const std::string& message) override {
    if (!star_.Abort(message)) return;
    std::string line = message;
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", line.c_str());
  }

  std::string Trouble() override { return star_.Trouble(); }

 private:
  static int64_t BytesOf(const std::vector<int64_t>& numbers) {
    return std::ssize(numbers) * static_cast<int64_t>(sizeof(int64_t));
  }
  // All ranks' parts, rows[r] * row bytes of rank r, one after another.
  void GatherParts(const std::string& call, Sent mine, const std::vector<int64_t>& rows, int64_t row,
                   Received all) {
    std::vector<Received> parts;
    char* to = static_cast<char*>(all.data);
    for (int64_t n : rows) {
      parts.push_back({to, n * row});
      to += n * row;
    }
    if (root() && mine.bytes > 0) std::memcpy(all.data, mine.data, static_cast<size_t>(mine.bytes));
    star_.Exchange(
        call, mine, all, [&](int r) { return parts[static_cast<size_t>(r)]; }, [] {},
        [&](int) {
          return Sent{all.data, all.bytes};
        });
  }

  static constexpr int kAll = -1;                  // in place of a rank
  static constexpr int64_t kPieceBytes = 1 << 20;  // of a tensor, that rank 0 holds of each rank at once

  // The sums of so many numbers of every rank, for one rank or kAll; in pieces, so that rank 0 needs no room
  // for the tensors of all.
  void ReduceTo(int owner, const std::string& call, Reduce op, DType dtype, const void* from, int64_t count,
                void* to) {
    const int64_t most = kPieceBytes / SizeOf(dtype);
    int64_t first = 0;
    do {
      const int64_t piece = std::min(most, count - first), bytes = piece * SizeOf(dtype);
      const int64_t offset = first * SizeOf(dtype);
      const char* mine = static_cast<const char*>(from) + offset;
      char* sums = owner == kAll || owner == rank() ? static_cast<char*>(to) + offset : nullptr;
      std::vector<char> others(root() ? static_cast<size_t>((size() - 1) * bytes) : 0), kept;
      if (root() && sums == nullptr) kept.resize(static_cast<size_t>(bytes)), sums = kept.data();
      std::vector<const void*> inputs = {mine};
      for (int r = 1; root() && r < size(); ++r) inputs.push_back(others.data() + (r - 1) * bytes);
      star_.Exchange(
          call, {mine, bytes}, sums == nullptr ? Received{} : Received{sums, bytes},
          [&](int r) {
            return Received{others.data() + (r - 1) * bytes, bytes};
          },
          [&] { CombineRanks(dtype, op, inputs, 0, piece, sums); },
          [&](int r) {
            return owner == kAll || owner == r ? Sent{sums, bytes} : Sent{};
          });
      first += piece;
    } while (first < count);
  }

  Star star_;
  int uncaught_;  // exceptions in flight when it was made
};

}  // namespace

std::unique_ptr<Communicator> NewTcpCommunicator(int rank, int size, const std::string& address, int port,
                                                 double patience) {
  Require(size >= 1, "a job of ", size, " ranks was asked for; expected at least 1");
  Require(rank >= 0 && rank < size, "rank ", rank, " of a job of ", size, " was asked for; expected 0 to ",
          size - 1);
  Require(port >= 1 && port <= 65535, "port ", port, " was given; expected 1 to 65535");
  if (size == 1) return NewSelfCommunicator();
  return std::make_unique<TcpCommunicator>(rank, size, address, port, patience);
}

}  // namespace crema
