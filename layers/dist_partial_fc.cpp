// DistPartialFC: cosines between the whole batch's embeddings and sampled class centres, sharded over ranks
// (An et al., arXiv 2203.15565). With a MarginSoftmax alone behind it, and unless the net says `fuse: false`,
// the two run as one that never has all cosines in memory (src/net/streaming_head.hpp); this is the plain
// form.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"
#include "net/partial_fc.hpp"

namespace crema {
namespace {

template <class T>
struct ClampEach {
  T* x;
  CREMA_HD void operator()(int64_t i) const { x[i] = ClampCosine(x[i]); }
};

struct DistPartialFC final : Layer {
  explicit DistPartialFC(const LayerParameter& parameter) : Layer(parameter), fc_(*this) {}

  Arity arity() const override { return {2, 2, 2, 2}; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int index) const override { return index == 0; }
  int64_t MultiplyAdds(const Blobs&, const Blobs& top) const override {
    return top[0]->count() * fc_.width();
  }

  void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    fc_.Reshape(ctx, *bottom[0], *bottom[1]);
    const DistPartialFCParameter& options = spec().dist_partial_fc_param();
    FillerParameter filler = options.weight_filler();
    if (!options.has_weight_filler()) filler.set_type("gaussian"), filler.set_std(0.01f);
    const bool bf16 = options.precision() == DistPartialFCParameter::BF16;
    Param& weight =
        AddParam(0, bf16 ? DType::kBF16 : bottom[0]->dtype(), {fc_.shard().rows, fc_.width()}, filler);
    if (options.storage() == DistPartialFCParameter::FILE && weight.memory == nullptr)
      weight.memory = std::make_shared<FileMemory>(
          options.storage_dir(), int64_t{options.resident_mb()} << 20, options.sample_rate() < 1);
    weight.on_host = options.storage() == DistPartialFCParameter::HOST;
    weight.sharded = weight.row_sparse = true;
    weight.first_row = fc_.shard().first;
    weight.total_rows = fc_.classes();
    weight.assignment = fc_.assignment(ctx);
    weight.update_all_rows = options.update() == DistPartialFCParameter::ALL_ROWS;

    top[0]->Reshape(bottom[0]->dtype(), {fc_.samples(), fc_.most_rows(ctx)});
    top[1]->Reshape(DType::kI64, {fc_.samples()});
    top[0]->set_placement(Placement::kClass);
    top[1]->set_placement(Placement::kClass);
  }

  // Also a copy of the centres drawn, at unit length.
  Workspace WorkspaceFor(const Context& ctx, const Blobs& bottom, const Blobs& top) const override {
    const DType dtype = bottom[0]->dtype();
    Workspace space = fc_.WorkspaceFor(ctx, dtype, bottom[0]->needs_grad());
    space.kept.push_back({"centres drawn", fc_.most_rows(ctx) * (fc_.width() + 1) * SizeOf(dtype)});
    if (top[0]->needs_grad() && params()[0]->needs_grad()) space.row_grads = fc_.RowGradBytes(ctx, dtype);
    return space;
  }
  std::vector<Collective> Collectives(const Context&, const Blobs& bottom, const Blobs&) const override {
    return fc_.Collectives(bottom[0]->dtype(), bottom[0]->needs_grad());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    fc_.Draw(ctx, *bottom[1]);
    top[0]->Reshape(top[0]->dtype(), {fc_.samples(), fc_.row_count()});
    top[0]->BindShape();
    top[1]->data().FromHost(fc_.positions());
    fc_.GatherEmbeddings(ctx, *bottom[0]);
    ForReal(top[0]->dtype(), [&]<class T>() { Cosines<T>(ctx, top[0]); });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      if (bottom[0]->needs_grad()) EmbeddingGrad<T>(ctx, *top[0], bottom[0]);
      if (param(0).needs_grad()) CentreGrad<T>(ctx, *top[0]);
    });
  }

 private:
  // Piece by piece where they lie in a file, so that they need not all be resident at once.
  template <class T>
  void GatherCentres(const Context& ctx) {
    const Param& weight = param(0);
    const int64_t drawn = fc_.row_count(), width = fc_.width();
    const int64_t piece = weight.memory != nullptr ? 1 << 14 : std::max<int64_t>(1, drawn);
    for (int64_t first = 0; first < drawn; first += piece) {
      const int64_t count = std::min(piece, drawn - first);
      const int64_t* rows = fc_.rows() != nullptr ? fc_.rows() + first : nullptr;
      CopyRows<RowCopy::kUnit>(ctx, weight.value, rows, first, count, centres_.data<T>() + first * width,
                               inverse_norm_.data<T>() + first);
      if (weight.memory != nullptr) weight.memory->Used(rows, first, count, width * SizeOf(weight.dtype));
    }
  }

  template <class T>
  void Cosines(const Context& ctx, Blob* cosine) {
    const int64_t drawn = fc_.row_count();
    if (param(0).rule != nullptr) param(0).rule->CatchUp(ctx, {fc_.rows(), 0, drawn});
    centres_ = Tensor(*ctx.device, DTypeOf<T>(), {drawn, fc_.width()});
    inverse_norm_ = Tensor(*ctx.device, DTypeOf<T>(), {drawn});
    GatherCentres<T>(ctx);
    const GemmShape product{false, true, fc_.samples(), drawn, fc_.width(), 0, 0, 0};
    ctx.device->Gemm(DTypeOf<T>(), product, 1, fc_.embeddings().raw(), centres_.raw(), 0,
                     cosine->data().raw());
    ForEach(ctx, cosine->count(), ClampEach<T>{cosine->data<T>()});
  }

  template <class T>
  void EmbeddingGrad(const Context& ctx, const Blob& cosine, Blob* embedding) {
    Tensor unit_grad(*ctx.device, DTypeOf<T>(), {fc_.samples(), fc_.width()});
    const GemmShape product{false, false, fc_.samples(), fc_.width(), centres_.dim(0), 0, 0, 0};
    if (centres_.dim(0) > 0) {
      ctx.device->Gemm(DTypeOf<T>(), product, 1, cosine.grad().raw(), centres_.raw(), 0, unit_grad.raw());
    } else {
      unit_grad.Zero();
    }
    fc_.ScatterGrad(ctx, unit_grad, embedding);
  }

  template <class T>
  void CentreGrad(const Context& ctx, const Blob& cosine) {
    const int64_t drawn = centres_.dim(0);
    Tensor grad(*ctx.device, DTypeOf<T>(), {drawn, fc_.width()});
    if (drawn > 0) {
      const GemmShape product{true, false, drawn, fc_.width(), fc_.samples(), 0, 0, 0};
      ctx.device->Gemm(DTypeOf<T>(), product, 1, cosine.grad().raw(), fc_.embeddings().raw(), 0, grad.raw());
      ForEachRow(ctx, drawn,
                 ProjectRow<T>{grad.data<T>(), centres_.data<T>(), inverse_norm_.data<T>(), grad.data<T>(),
                               fc_.width()});
    }
    fc_.AddRowGrad(ctx, grad, &param(0));
  }

  PartialFc fc_;
  Tensor centres_, inverse_norm_;  // of the rows drawn: [rows, width] at unit length, [rows]
};

CREMA_REGISTER_LAYER(DistPartialFC, "dist_partial_fc_param");

}  // namespace
}  // namespace crema
