// DistPartialFC: cosines between the whole batch's embeddings and sampled class centres, sharded over ranks
// (An et al., arXiv 2203.15565).
#include <algorithm>

#include "crema/head.hpp"
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

constexpr double kLeastNorm = 1e-12;

// Square of element k of row rows[r] (or r, without rows).
template <class T>
struct SquareOf {
  const T* x;
  const int64_t* rows;
  int64_t width;
  CREMA_HD T operator()(int64_t r, int64_t k) const {
    const T value = x[(rows ? rows[r] : r) * width + k];
    return value * value;
  }
};

// squares[r] = sum of squares becomes 1 / norm.
template <class T>
struct InvertNorm {
  T* squares;
  CREMA_HD void operator()(int64_t r) const {
    const double norm = sqrt(static_cast<double>(squares[r]));
    squares[r] = static_cast<T>(1 / (norm > kLeastNorm ? norm : kLeastNorm));
  }
};

template <class T>
struct ScaledRow {
  const T *x, *scale;
  const int64_t* rows;
  T* y;
  int64_t width;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t r = i / width;
    y[i] = x[(rows ? rows[r] : r) * width + i % width] * scale[r];
  }
};

template <class T>
struct ProductOf {  // of element k of row r of both
  const T *x, *y;
  int64_t width;
  CREMA_HD T operator()(int64_t r, int64_t k) const { return x[r * width + k] * y[r * width + k]; }
};

// Gradient through y = x / |x|: dx = (dy - (dy . y) y) / |x|.
template <class T>
struct NormaliseGrad {
  const T *dy, *y, *dot, *inverse_norm;
  T* dx;
  int64_t width;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t r = i / width;
    dx[i] = (dy[i] - dot[r] * y[i]) * inverse_norm[r];
  }
};

template <class T>
struct ClampCosine {
  T* x;
  CREMA_HD void operator()(int64_t i) const { x[i] = x[i] > 1 ? T(1) : x[i] < -1 ? T(-1) : x[i]; }
};

template <class T>
struct AddRow {  // sum[at[r]] += term[r]
  T* sum;
  const T* term;
  const int64_t* at;
  int64_t width;
  CREMA_HD void operator()(int64_t i) const { sum[at[i / width] * width + i % width] += term[i]; }
};

struct DistPartialFC final : Layer {
  using Layer::Layer;

  Arity arity() const override { return {2, 2, 2, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  int64_t MultiplyAdds(const Blobs&, const Blobs& top) const override { return top[0]->count() * width_; }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const DistPartialFCParameter& options = spec().dist_partial_fc_param();
    classes_ = options.num_output();
    Check(classes_ > 0, "num_output (the number of identities) is ", classes_, "; expected at least 1");
    Check(options.sample_rate() >= 0 && options.sample_rate() <= 1, "sample_rate is ", options.sample_rate(),
          "; expected a value from 0 to 1");
    Check(bottom[0]->axes() >= 2, "bottom '", bottom[0]->name(), "' of shape ", ToString(bottom[0]->shape()),
          " found where embeddings [batch, width] were expected");
    Check(bottom[1]->count() == bottom[0]->num(), "bottom '", bottom[1]->name(), "' has ", bottom[1]->count(),
          " labels for ", bottom[0]->num(), " embeddings");
    width_ = bottom[0]->count(1);
    batches_ = ctx.comm->AllGatherNumber(bottom[0]->num());
    batch_ = 0;
    for (int64_t batch : batches_) batch_ += batch;
    shard_ = ShardOf(classes_, ctx.comm->size(), ctx.comm->rank());

    FillerParameter filler = options.weight_filler();
    if (!options.has_weight_filler()) filler.set_type("gaussian"), filler.set_std(0.01f);
    Param& weight = AddParam(0, bottom[0]->dtype(), {shard_.rows, width_}, filler);
    weight.sharded = weight.row_sparse = true;
    weight.first_row = shard_.first;
    weight.total_rows = classes_;
    weight.update_all_rows = options.update() == DistPartialFCParameter::ALL_ROWS;

    top[0]->Reshape(bottom[0]->dtype(), {batch_, draw(ctx).MostRows(shard_, batch_)});
    top[1]->Reshape(DType::kI64, {batch_});
    top[0]->set_placement(Placement::kClass);
    top[1]->set_placement(Placement::kClass);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const std::vector<int64_t> labels = GatherLabels(ctx, *bottom[1]);
    rows_ = draw(ctx).Draw(shard_, ctx.iteration, labels);
    top[0]->Reshape(top[0]->dtype(), {batch_, static_cast<int64_t>(rows_.size())});
    top[0]->BindShape();
    WritePositions(labels, top[1]);
    ForReal(top[0]->dtype(), [&]<class T>() { Cosines<T>(ctx, *bottom[0], top[0]); });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      if (bottom[0]->needs_grad()) EmbeddingGrad<T>(ctx, *top[0], bottom[0]);
      if (param(0).needs_grad()) CentreGrad<T>(ctx, *top[0]);
    });
  }

 private:
  // In TEST every class is scored.
  ClassDraw draw(const Context& ctx) const {
    const DistPartialFCParameter& options = spec().dist_partial_fc_param();
    const uint64_t seed = options.has_seed() ? options.seed() : ctx.seed;
    return {MixBits(seed, NameKey("draw/" + name())), classes_, phase() == TEST ? 1 : options.sample_rate()};
  }

  // Labels of the global batch, on the host.
  std::vector<int64_t> GatherLabels(const Context& ctx, const Blob& label) {
    std::vector<int64_t> mine(static_cast<size_t>(label.count()));
    if (label.dtype() == DType::kI64) {
      mine = label.data().ToHost<int64_t>();
    } else {
      ForReal(label.dtype(), [&]<class T>() {
        const std::vector<T> values = label.data().ToHost<T>();
        std::transform(values.begin(), values.end(), mine.begin(),
                       [](T x) { return static_cast<int64_t>(x); });
      });
    }
    for (size_t i = 0; i < mine.size(); ++i) {
      Check(mine[i] >= 0 && mine[i] < classes_, "sample ", i, " has label ", mine[i], "; expected 0 to ",
            classes_ - 1, " (num_output is ", classes_, ")");
    }
    Tensor local(*ctx.device, DType::kI64, {label.count()}), all(*ctx.device, DType::kI64, {batch_});
    local.FromHost(mine);
    ctx.comm->AllGather(local, batches_, &all);
    return all.ToHost<int64_t>();
  }

  // For each sample, where its class is among the rows drawn here; -1 if another rank owns it.
  void WritePositions(const std::vector<int64_t>& labels, Blob* top) const {
    std::vector<int64_t> positions(labels.size(), -1);
    for (size_t i = 0; i < labels.size(); ++i) {
      if (!shard_.owns(labels[i])) continue;
      positions[i] = std::lower_bound(rows_.begin(), rows_.end(), labels[i] - shard_.first) - rows_.begin();
    }
    top->data().FromHost(positions);
  }

  // y = the rows of x (all, or those listed in `rows`) at unit length.
  template <class T>
  void Normalise(const Context& ctx, const Tensor& x, const int64_t* rows, Tensor* y,
                 Tensor* inverse_norm) const {
    const int64_t count = y->dim(0);
    RowReduce<Reduce::kSum>(ctx, count, width_, SquareOf<T>{x.data<T>(), rows, width_},
                            inverse_norm->data<T>());
    ForEach(ctx, count, InvertNorm<T>{inverse_norm->data<T>()});
    ForEach(ctx, y->count(), ScaledRow<T>{x.data<T>(), inverse_norm->data<T>(), rows, y->data<T>(), width_});
  }

  template <class T>
  void Cosines(const Context& ctx, const Blob& embedding, Blob* cosine) {
    const DType dtype = DTypeOf<T>();
    const int64_t drawn = static_cast<int64_t>(rows_.size());
    Tensor all(*ctx.device, dtype, {batch_, width_});
    ctx.comm->AllGather(embedding.data().Reshaped({embedding.num(), width_}), batches_, &all);
    embeddings_ = Tensor(*ctx.device, dtype, {batch_, width_});
    embedding_inverse_norm_ = Tensor(*ctx.device, dtype, {batch_});
    Normalise<T>(ctx, all, nullptr, &embeddings_, &embedding_inverse_norm_);

    Tensor index(*ctx.device, DType::kI64, {drawn});
    index.FromHost(rows_);
    centres_ = Tensor(*ctx.device, dtype, {drawn, width_});
    centre_inverse_norm_ = Tensor(*ctx.device, dtype, {drawn});
    Normalise<T>(ctx, param(0).value, index.data<int64_t>(), &centres_, &centre_inverse_norm_);

    GemmShape product{false, true, batch_, drawn, width_, 0, 0, 0};
    ctx.device->Gemm(dtype, product, 1, embeddings_.raw(), centres_.raw(), 0, cosine->data().raw());
    ForEach(ctx, cosine->count(), ClampCosine<T>{cosine->data<T>()});
  }

  // dE = the sum over ranks of dcos W, for this rank's samples, through the normalisation.
  template <class T>
  void EmbeddingGrad(const Context& ctx, const Blob& cosine, Blob* embedding) {
    Tensor all(*ctx.device, DTypeOf<T>(), {batch_, width_});
    GemmShape product{false, false, batch_, width_, centres_.dim(0), 0, 0, 0};
    if (centres_.dim(0) > 0) {
      ctx.device->Gemm(DTypeOf<T>(), product, 1, cosine.grad().raw(), centres_.raw(), 0, all.raw());
    } else {
      all.Zero();
    }
    Tensor mine(*ctx.device, DTypeOf<T>(), {embedding->num(), width_});
    ctx.comm->ReduceScatter(all, batches_, &mine);
    int64_t first = 0;
    for (int rank = 0; rank < ctx.comm->rank(); ++rank) first += batches_[static_cast<size_t>(rank)];
    const int64_t last = first + embedding->num();
    ProjectGrad<T>(ctx, mine, embeddings_.Rows(first, last), embedding_inverse_norm_.Rows(first, last),
                   embedding->grad<T>());
  }

  // dW = dcos^T E of the rows drawn, through the normalisation, added to the gradient by rows.
  template <class T>
  void CentreGrad(const Context& ctx, const Blob& cosine) {
    const int64_t drawn = centres_.dim(0);
    Tensor unit_grad(*ctx.device, DTypeOf<T>(), {drawn, width_}),
        grad(*ctx.device, DTypeOf<T>(), {drawn, width_});
    if (drawn > 0) {
      GemmShape product{true, false, drawn, width_, batch_, 0, 0, 0};
      ctx.device->Gemm(DTypeOf<T>(), product, 1, cosine.grad().raw(), embeddings_.raw(), 0, unit_grad.raw());
      ProjectGrad<T>(ctx, unit_grad, centres_, centre_inverse_norm_, grad.data<T>());
    }
    AddRowGrad<T>(ctx, grad);
  }

  template <class T>
  void ProjectGrad(const Context& ctx, const Tensor& dy, const Tensor& y, const Tensor& inverse_norm,
                   T* dx) const {
    Tensor dot(*ctx.device, DTypeOf<T>(), {dy.dim(0)});
    RowReduce<Reduce::kSum>(ctx, dy.dim(0), width_, ProductOf<T>{dy.data<T>(), y.data<T>(), width_},
                            dot.data<T>());
    ForEach(ctx, dy.count(),
            NormaliseGrad<T>{dy.data<T>(), y.data<T>(), dot.data<T>(), inverse_norm.data<T>(), dx, width_});
  }

  // Later parts of an iteration (iter_size) may have drawn other rows: the gradient covers the union.
  template <class T>
  void AddRowGrad(const Context& ctx, const Tensor& grad) {
    Param& weight = param(0);
    if (weight.rows.empty()) {
      weight.rows = rows_;
      weight.row_grad = grad;
      return;
    }
    std::vector<int64_t> both;
    std::set_union(weight.rows.begin(), weight.rows.end(), rows_.begin(), rows_.end(),
                   std::back_inserter(both));
    Tensor sum(*ctx.device, DTypeOf<T>(), {static_cast<int64_t>(both.size()), width_});
    sum.Zero();
    const auto add = [&](const std::vector<int64_t>& rows, const Tensor& term) {
      std::vector<int64_t> at(rows.size());
      for (size_t i = 0; i < rows.size(); ++i)
        at[i] = std::lower_bound(both.begin(), both.end(), rows[i]) - both.begin();
      Tensor index(*ctx.device, DType::kI64, {static_cast<int64_t>(at.size())});
      index.FromHost(at);
      ForEach(ctx, term.count(), AddRow<T>{sum.data<T>(), term.data<T>(), index.data<int64_t>(), width_});
    };
    add(weight.rows, weight.row_grad);
    add(rows_, grad);
    weight.rows = std::move(both);
    weight.row_grad = sum;
  }

  int64_t classes_ = 0, width_ = 0, batch_ = 0;
  std::vector<int64_t> batches_;  // samples of each rank
  Shard shard_;
  std::vector<int64_t> rows_;                   // drawn in the last Forward, local numbers, sorted
  Tensor embeddings_, embedding_inverse_norm_;  // [batch, width] at unit length, [batch]
  Tensor centres_, centre_inverse_norm_;        // [drawn, width] at unit length, [drawn]
};

CREMA_REGISTER_LAYER(DistPartialFC, "dist_partial_fc_param");

}  // namespace
}  // namespace crema
