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

template <class Word>
struct CollectRow {
  const int64_t* rows;
  const Word* all;
  StagedRows<Word> earlier, later;
  int64_t width;
  Word* out;
  template <class Lanes>
  CREMA_HD void operator()(int64_t k, const Lanes& lanes) const {
    const Word* from = later.Find(rows[k], width);
    if (from == nullptr) from = earlier.Find(rows[k], width);
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

}  // namespace

RowStage::Part RowStage::Collect(const Context& ctx, const std::vector<Tensor>& all, const Tensor& rows,
                                 const Part* earlier, const Part* later) {
  Part part{ctx.iteration, rows, {}};
  for (size_t i = 0; i < all.size(); ++i) {
    Tensor values(*ctx.device, all[i].dtype(), {rows.count(), all[i].dim(1)});
    ForWords(all[i], [&]<class Word>(int64_t width) {
      const auto staged = [&](const Part* of) -> StagedRows<Word> {
        if (of == nullptr) return {};
        return {of->rows.template data<int64_t>(), of->rows.count(), WordsOf<Word>(of->values[i])};
      };
      ForEachRow(ctx, rows.count(),
                 CollectRow<Word>{rows.data<int64_t>(), WordsOf<Word>(all[i]), staged(earlier), staged(later),
                                  width, WordsOf<Word>(values)});
    });
    part.values.push_back(values);
  }
  return part;
}

void RowStage::Fetch(const Context& ctx, const std::vector<Tensor>& all, const std::vector<int64_t>& rows) {
  Context side = ctx;
  side.device = beside_.get();
  ++side.iteration;
  Tensor index(*beside_, DType::kI64, {static_cast<int64_t>(rows.size())});
  index.FromHost(rows);
  fetched_ = Collect(side, all, index, nullptr, nullptr);
}

void RowStage::Take(const Context& ctx, const std::vector<Tensor>& all, const Tensor& rows) {
  if (!is_back_) PutBack(ctx, all);
  Settle();
  taken_ = Collect(ctx, all, rows, fetched_.iteration == ctx.iteration ? &fetched_ : nullptr,
                   taken_.iteration + 1 == ctx.iteration && taken_.iteration >= 0 ? &taken_ : nullptr);
  beside_->Follow(device_);  // what was fetched has been read
  fetched_ = {};
  is_back_ = false;
}

void RowStage::PutBack(const Context& ctx, const std::vector<Tensor>& all) {
  Context side = ctx;
  side.device = beside_.get();
  beside_->Follow(device_);
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

}  // namespace crema
