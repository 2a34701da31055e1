#include "net/partial_fc.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "crema/parallel.hpp"
#include "crema/permutation.hpp"
#include "net/host_values.hpp"

namespace crema {
namespace {

template <class T>
struct AddRow {  // row at[k] of sum += row k of term
  T* sum;
  const T* term;
  const int64_t* at;
  int64_t width;
  CREMA_HD void operator()(int64_t k) const {
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) sum[at[k] * width + d] += term[k * width + d];
  }
};

}  // namespace

void PartialFc::Reshape(const Context& ctx, const Blob& embedding, const Blob& label) {
  const DistPartialFCParameter& options = layer_.spec().dist_partial_fc_param();
  classes_ = options.num_output();
  Check(classes_ > 0, "num_output (the number of identities) is ", classes_, "; expected at least 1");
  Check(options.sample_rate() >= 0 && options.sample_rate() <= 1, "sample_rate is ", options.sample_rate(),
        "; expected a value from 0 to 1");
  Check(options.storage() != DistPartialFCParameter::FILE || !ctx.device->is_cuda(),
        "storage is FILE, which is for CPUs; on a GPU class centres lie in its own memory (DEVICE) or the "
        "host's "
        "(HOST)");
  const int64_t block = options.block_rows();
  Check(block > 0 && block <= ClassDraw::kCell && (block & (block - 1)) == 0, "block_rows is ", block,
        "; expected a power of two up to ", ClassDraw::kCell);
  Check(embedding.axes() >= 2, "bottom '", embedding.name(), "' of shape ", ToString(embedding.shape()),
        " found where embeddings [batch, width] were expected");
  Check(label.count() == embedding.num(), "bottom '", label.name(), "' has ", label.count(), " labels for ",
        embedding.num(), " embeddings");
  width_ = embedding.count(1);
  batches_ = ctx.comm->AllGatherNumber(embedding.num());
  samples_ = std::accumulate(batches_.begin(), batches_.end(), int64_t{0});
  shard_ = ShardOf(classes_, ctx.comm->size(), ctx.comm->rank());
}

bool PartialFc::draws_blocks() const {
  const DistPartialFCParameter& options = layer_.spec().dist_partial_fc_param();
  if (options.has_draw()) return options.draw() == DistPartialFCParameter::BLOCKS;
  return options.storage() == DistPartialFCParameter::FILE;
}

uint64_t PartialFc::key(const Context& ctx, const char* what) const {
  const DistPartialFCParameter& options = layer_.spec().dist_partial_fc_param();
  return MixBits(options.has_seed() ? options.seed() : ctx.seed, NameKey(what + layer_.name()));
}

std::optional<uint64_t> PartialFc::assignment(const Context& ctx) const {
  if (!draws_blocks()) return std::nullopt;
  return key(ctx, "assignment/");
}

// In TEST every class is scored.
ClassDraw PartialFc::draw(const Context& ctx) const {
  const DistPartialFCParameter& options = layer_.spec().dist_partial_fc_param();
  return {key(ctx, "draw/"), classes_, layer_.phase() == TEST ? 1 : options.sample_rate(),
          draws_blocks() ? int64_t{options.block_rows()} : 1};
}

// Rows of the global batch's classes, on the host.
std::vector<int64_t> PartialFc::GatherRows(const Context& ctx, const Blob& label) const {
  std::vector<int64_t> mine = HostLabels(label);
  for (size_t i = 0; i < mine.size(); ++i) {
    Check(IsClass(mine[i]), "sample ", i, " has label ", mine[i], "; expected 0 to ", classes_ - 1,
          " (num_output is ", classes_, ")");
  }
  BecomeRows(ctx, &mine);
  return ctx.comm->AllGatherNumbers(mine, batches_);
}

// Of labels that are classes.
void PartialFc::BecomeRows(const Context& ctx, std::vector<int64_t>* labels) const {
  const auto permuted = assignment(ctx);
  if (!permuted) return;
  const Permutation row_of_class(*permuted, classes_);
  for (int64_t& label : *labels) label = row_of_class(label);
}

// A label that is no class is left for the iteration that has it to complain of.
std::vector<int64_t> PartialFc::ComingRows(const Context& ctx, const Blob& label) const {
  constexpr int64_t kUnknown = -1;
  std::vector<int64_t> mine;
  if (const Blob::HostNumbers coming = label.coming_numbers())
    std::copy_if(coming->begin(), coming->end(), std::back_inserter(mine),
                 [&](int64_t x) { return IsClass(x); });
  BecomeRows(ctx, &mine);
  mine.resize(static_cast<size_t>(label.count()), kUnknown);
  std::vector<int64_t> all = ctx.comm->AllGatherNumbers(mine, batches_);
  std::erase(all, kUnknown);
  return draw(ctx).Draw(shard_, ctx.iteration + 1, std::move(all));
}

void PartialFc::Draw(const Context& ctx, const Blob& label) {
  const std::vector<int64_t> labels = GatherRows(ctx, label);
  const ClassDraw classes = draw(ctx);
  all_rows_ = classes.DrawsAll();
  if (!all_rows_) {
    rows_ = classes.Draw(shard_, ctx.iteration, labels);
    index_ = OnDevice(ctx, rows_);
  }
  positions_.assign(labels.size(), -1);
  for (size_t i = 0; i < labels.size(); ++i) {
    if (!shard_.owns(labels[i])) continue;
    const int64_t row = labels[i] - shard_.first;
    positions_[i] = all_rows_ ? row : std::lower_bound(rows_.begin(), rows_.end(), row) - rows_.begin();
  }
}

void PartialFc::GatherEmbeddings(const Context& ctx, const Blob& embedding) {
  Tensor all(*ctx.device, embedding.dtype(), {samples_, width_});
  ctx.comm->AllGather(embedding.data().Reshaped({embedding.num(), width_}), batches_, &all);
  embeddings_ = Tensor(*ctx.device, embedding.dtype(), {samples_, width_});
  inverse_norm_ = Tensor(*ctx.device, embedding.dtype(), {samples_});
  ForReal(embedding.dtype(), [&]<class T>() {
    CopyRows<RowCopy::kUnit>(ctx, all, nullptr, 0, samples_, embeddings_.data<T>(), inverse_norm_.data<T>());
  });
}

void PartialFc::ScatterGrad(const Context& ctx, const Tensor& unit_grad, Blob* embedding) const {
  Tensor mine(*ctx.device, embedding->dtype(), {embedding->num(), width_});
  ctx.comm->ReduceScatter(unit_grad, batches_, &mine);
  const int64_t first = std::accumulate(batches_.begin(), batches_.begin() + ctx.comm->rank(), int64_t{0});
  ForReal(embedding->dtype(), [&]<class T>() {
    ForEachRow(ctx, embedding->num(),
               ProjectRow<T>{mine.data<T>(), embeddings_.data<T>() + first * width_,
                             inverse_norm_.data<T>() + first, embedding->grad<T>(), width_});
  });
}

// Kept: embeddings_ and inverse_norm_, positions_, rows_ and index_. For a moment: the parts of a draw; all
// embeddings as they came, or all gradients with this rank's.
Workspace PartialFc::WorkspaceFor(const Context& ctx, DType dtype, bool backward) const {
  constexpr int64_t kNumber = sizeof(int64_t);
  const int64_t embeddings = samples_ * width_ * SizeOf(dtype);
  const int64_t drawn = draw(ctx).DrawsAll() ? 0 : most_rows(ctx) * kNumber;
  const int64_t exchanged = backward ? embeddings + embeddings / ctx.comm->size() : embeddings;
  return {.kept = {{"gathered batch", embeddings + samples_ * (SizeOf(dtype) + kNumber)},
                   {"numbers of rows drawn", 2 * drawn}},
          .scratch = std::max(drawn, exchanged)};
}

std::vector<Collective> PartialFc::Collectives(DType dtype, bool backward) const {
  using Kind = Collective::Kind;
  const int64_t embeddings = samples_ * width_ * SizeOf(dtype);
  std::vector<Collective> all = {{Kind::kAllGather, "embeddings", embeddings},
                                 {Kind::kAllGather, "labels", samples_ * SizeOf(DType::kI64)}};
  if (backward) all.push_back({Kind::kReduceScatter, "gradients of embeddings", embeddings});
  return all;
}

int64_t PartialFc::RowGradBytes(const Context& ctx, DType dtype) const {
  return most_rows(ctx) * (width_ * SizeOf(dtype) + 2 * SizeOf(DType::kI64));
}

std::vector<int64_t> PartialFc::RowList() const {
  if (!all_rows_) return rows_;
  std::vector<int64_t> all(static_cast<size_t>(shard_.rows));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

void PartialFc::AddRowGrad(const Context& ctx, const Tensor& grad, Param* weight) const {
  if (weight->rows.empty()) {
    weight->rows = RowList();
    weight->row_grad = grad;
    return;
  }
  const std::vector<int64_t> mine = RowList();
  std::vector<int64_t> both;
  std::set_union(weight->rows.begin(), weight->rows.end(), mine.begin(), mine.end(),
                 std::back_inserter(both));
  Tensor sum(*ctx.device, grad.dtype(), {static_cast<int64_t>(both.size()), width_});
  sum.Zero();
  const auto add = [&](const std::vector<int64_t>& rows, const Tensor& term) {
    std::vector<int64_t> at(rows.size());
    for (size_t i = 0; i < rows.size(); ++i)
      at[i] = std::lower_bound(both.begin(), both.end(), rows[i]) - both.begin();
    const Tensor index = OnDevice(ctx, at);
    ForReal(grad.dtype(), [&]<class T>() {
      ForEachRow(ctx, term.dim(0), AddRow<T>{sum.data<T>(), term.data<T>(), index.data<int64_t>(), width_});
    });
  };
  add(weight->rows, weight->row_grad);
  add(mine, grad);
  weight->rows = std::move(both);
  weight->row_grad = sum;
}

}  // namespace crema
