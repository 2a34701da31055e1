// Filter: of each bottom but the last, the samples at which the last, the selector, is not 0.
#include "crema/layer.hpp"
#include "net/picked_rows.hpp"

namespace crema {
namespace {

struct Filter final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, -1, 1, -1}; }
  bool BottomHasGradient(int index) const override { return index < spec().bottom_size() - 1; }

  // The tops' largest shapes; Forward, which knows the selector, gives the true ones.
  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    Check(top.size() + 1 == bottom.size(), "it has ", bottom.size(), " bottoms and ", top.size(),
          " tops; expected a top for each bottom but the last, which selects");
    const Blob& selector = *bottom.back();
    Check(selector.axes() > 0 && selector.count() == selector.num(), "the selector '", selector.name(),
          "' is ", ToString(selector.shape()), "; expected one number for each sample");
    for (size_t k = 0; k < top.size(); ++k) {
      const Blob& x = *bottom[k];
      Check(x.axes() > 0 && x.num() == selector.num(), "bottom '", x.name(), "' is ", ToString(x.shape()),
            " where ", selector.num(), " samples, as the selector has, were expected");
      top[k]->ReshapeLike(x);
    }
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    const std::vector<double> selector = HostValues(*bottom.back());
    std::vector<int64_t> selected;
    for (size_t n = 0; n < selector.size(); ++n) {
      if (selector[n] != 0) selected.push_back(static_cast<int64_t>(n));
    }
    picked_ = PickedRows(ctx, selected);
    for (size_t k = 0; k < top.size(); ++k) {
      Shape shape = bottom[k]->shape();
      shape[0] = picked_.count();
      top[k]->Reshape(bottom[k]->dtype(), shape, bottom[k]->block());
      top[k]->BindShape();
      picked_.Pick(ctx, bottom[k]->data(), bottom[k]->count(1), &top[k]->data());
    }
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    for (size_t k = 0; k < top.size(); ++k) {
      if (!bottom[k]->needs_grad()) continue;
      bottom[k]->grad().Zero();
      picked_.AddBack(ctx, top[k]->grad(), bottom[k]->count(1), &bottom[k]->grad());
    }
  }

 private:
  PickedRows picked_;  // of the last Forward
};

CREMA_REGISTER_LAYER(Filter);

}  // namespace
}  // namespace crema
