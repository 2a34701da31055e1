// BatchReindex: sample n of the top is the sample of the first bottom whose number is element n of the
// second.
#include "crema/layer.hpp"
#include "net/picked_rows.hpp"

namespace crema {
namespace {

struct BatchReindex final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  bool BottomHasGradient(int index) const override { return index == 0; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob &x = *bottom[0], &numbers = *bottom[1];
    Check(numbers.axes() == 1, "bottom '", numbers.name(), "' is ", ToString(numbers.shape()),
          " where numbers of samples along one axis were expected");
    Check(x.axes() > 0, "bottom '", x.name(), "' is a scalar where samples were expected");
    Shape shape = x.shape();
    shape[0] = numbers.count();
    top[0]->Reshape(x.dtype(), shape, x.block());
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob& x = *bottom[0];
    picked_ = PickedRows(ctx, RowNumbers(*this, *bottom[1], x.num()));
    picked_.Pick(ctx, x.data(), x.count(1), &top[0]->data());
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob& x = *bottom[0];
    x.grad().Zero();
    picked_.AddBack(ctx, top[0]->grad(), x.count(1), &x.grad());
  }

 private:
  PickedRows picked_;  // of the last Forward
};

CREMA_REGISTER_LAYER(BatchReindex);

}  // namespace
}  // namespace crema
