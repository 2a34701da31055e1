#include "head/row_stage.hpp"

#include "crema/parallel.hpp"

namespace crema {
namespace {

// Rows of one tensor that are there one after the other.
template <class Word>
struct StagedRows {
  const int64_t* rows = nullptr;  // which, sorted
  int64_t count = 0;
  const Word* values = nullptr;

  // Where a row is; null: it is not there.
  CREMA_HD const Word* Find(int64_t row, int64_t width) const {
    int64_t begin = 0, end = count;
    while (begin < end) {
      const int64_t middle = (begin + end) / 2;
      if (rows[middle] < row) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    return begin < count && rows[begin] == row ? values + begin * width : nullptr;
  }
};

// Row k of those listed, from where it is staged; else from among all, or, where there are none, left alone.
template <class Word>
struct CollectRow {
  const int64_t* rows;
  StagedRows<Word> staged;
  const Word* all;
  int64_t width;
  Word* out;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const Word* from = staged.Find(rows[k], width);
    if (from == nullptr && all == nullptr) return;
    if (from == nullptr) from = all + rows[k] * width;
    Word* to = out + k * width;
    for (int64_t i = lanes.first(); i < width; i += lanes.step()) to[i] = from[i];
  }
};

template <class Word>
struct PutRowBack {
  const int64_t* rows;
  const Word* from;
  int64_t width;
  Word* all;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    Word* to = all + rows[k] * width;
    for (int64_t i = lanes.first(); i < width; i += lanes.step()) to[i] = from[k * width + i];
  }
};

// Calls f.operator()<Word>(words of a row) with the type in which its bytes are copied.
template <class F>
void ForWords(const Tensor& all, const F& f) {
  const int64_t bytes = all.dim(1) * SizeOf(all.dtype());
  if (bytes % 8 == 0) {
    f.template operator()<uint64_t>(bytes / 8);
  } else {
    f.template operator()<uint16_t>(bytes / 2);
  }
}

template <class Word>
Word* WordsOf(Tensor& tensor) {
  return static_cast<Word*>(tensor.raw());
}
template <class Word>
const Word* WordsOf(const Tensor& tensor) {
  return static_cast<const Word*>(tensor.raw());
}

// As a kernel takes them; of no tensors: no rows.
template <class Word>
StagedRows<Word> Staged(const Tensor& rows, const std::vector<Tensor>& values, size_t tensor) {
  if (values.empty()) return {};
  return {rows.data<int64_t>(), rows.count(), WordsOf<Word>(values[tensor])};
}

}  // namespace

RowStage::Part RowStage::Collect(const Context& ctx, const std::vector<Tensor>& all, const Tensor& rows,
                                 const Part& part) {
  Part made{ctx.iteration, 0, rows, {}};
  for (size_t i = 0; i < all.size(); ++i) {
    Tensor values(*ctx.device, all[i].dtype(), {rows.count(), all[i].dim(1)});
    ForWords(all[i], [&]<class Word>(int64_t width) {
      ForEachRow(ctx, rows.count(),
                 CollectRow<Word>{rows.data<int64_t>(), Staged<Word>(part.rows, part.values, i),
                                  WordsOf<Word>(all[i]), width, WordsOf<Word>(values)});
    });
    made.values.push_back(values);
  }
  return made;
}

void RowStage::Fetch(const Context& ctx, const std::vector<Tensor>& all, const std::vector<int64_t>& rows,
                     int64_t version) {
  Context side = ctx;
  side.device = beside_.get();
  ++side.iteration;
  Tensor index(*beside_, DType::kI64, {static_cast<int64_t>(rows.size())});
  index.FromHost(rows);
  fetched_ = Collect(side, all, index, {});
  fetched_.version = version;
}

void RowStage::Take(const Context& ctx, const std::vector<Tensor>& all, const Tensor& rows, int64_t version) {
  Settle(ctx, all);
  const bool is_fetched = fetched_.iteration == ctx.iteration && fetched_.version == version;
  taken_ = Collect(ctx, all, rows, is_fetched ? fetched_ : Part{});
  beside_->Follow(device_);  // what was fetched has been read
  fetched_ = {};
  is_back_ = false;
}

void RowStage::PutBack(const Context& ctx, const std::vector<Tensor>& all) {
  device_.Follow(*beside_);  // the next rows have come
  for (size_t i = 0; i < fetched_.values.size(); ++i) {
    ForWords(all[i], [&]<class Word>(int64_t width) {
      ForEachRow(ctx, fetched_.rows.count(),
                 CollectRow<Word>{fetched_.rows.data<int64_t>(), Staged<Word>(taken_.rows, taken_.values, i),
                                  nullptr, width, WordsOf<Word>(fetched_.values[i])});
    });
  }
  beside_->Follow(device_);
  Context side = ctx;
  side.device = beside_.get();
  for (size_t i = 0; i < all.size(); ++i) {
    Tensor to = all[i];
    ForWords(to, [&]<class Word>(int64_t width) {
      ForEachRow(side, taken_.rows.count(),
                 PutRowBack<Word>{taken_.rows.data<int64_t>(), WordsOf<Word>(taken_.values[i]), width,
                                  WordsOf<Word>(to)});
    });
  }
  is_back_ = true;
}

void RowStage::Settle(const Context& ctx, const std::vector<Tensor>& all) {
  if (!is_back_) PutBack(ctx, all);
  device_.Follow(*beside_);
  taken_ = {};
}

}  // namespace crema
