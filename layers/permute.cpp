// Permute: the axes in another order: axis k of the top is axis order[k] of the bottom (SSD, Liu et al.,
// arXiv 1512.02325).
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

#include <algorithm>

namespace crema {
namespace {

constexpr int kMostAxes = 8;

// Where element i of the permuted tensor lies in the other one.
struct PermutedIndex {
  int axes;
  int64_t size[kMostAxes], step[kMostAxes];
  CREMA_HD int64_t operator()(int64_t i) const {
    int64_t at = 0;
    for (int k = axes - 1; k >= 0; --k) at += i % size[k] * step[k], i /= size[k];
    return at;
  }
};

template <class S>
struct PermuteForward {
  const S* x;
  PermutedIndex index;
  S* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[index(i)]; }
};

template <class S>
struct PermuteBottomGrad {
  const S* dy;
  PermutedIndex index;
  S* dx;
  CREMA_HD void operator()(int64_t i) const { dx[index(i)] = dy[i]; }
};

struct Permute final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return Layouts::kCaffe; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    Check(x.axes() <= kMostAxes, "bottom '", x.name(), "' has ", x.axes(), " axes; expected at most ",
          kMostAxes);
    const std::vector<int64_t> order = Order(x);
    index_.axes = static_cast<int>(x.axes());
    Shape shape;
    for (size_t k = 0; k < order.size(); ++k) {
      shape.push_back(x.dim(order[k]));
      index_.size[k] = shape.back(), index_.step[k] = x.count(order[k] + 1);
    }
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ForBlob(top[0]->dtype(), [&]<class, class S>() {
      ForEach(ctx, top[0]->count(), PermuteForward<S>{bottom[0]->data<S>(), index_, top[0]->data<S>()});
    });
  }
  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForBlob(top[0]->dtype(), [&]<class, class S>() {
      ForEach(ctx, top[0]->count(), PermuteBottomGrad<S>{top[0]->grad<S>(), index_, bottom[0]->grad<S>()});
    });
  }

 private:
  std::vector<int64_t> Order(const Blob& x) const {
    std::vector<int64_t> order;
    const auto named = [&](int64_t axis) {
      return std::find(order.begin(), order.end(), axis) != order.end();
    };
    for (uint32_t axis : spec().permute_param().order()) {
      Check(int64_t{axis} < x.axes() && !named(axis), "order names axis ", axis, " of '", x.name(), "' (",
            ToString(x.shape()), "); expected each of its axes once at most");
      order.push_back(axis);
    }
    for (int64_t axis = 0; axis < x.axes(); ++axis) {
      if (!named(axis)) order.push_back(axis);
    }
    return order;
  }

  PermutedIndex index_{};
};

CREMA_REGISTER_LAYER(Permute, "permute_param");

}  // namespace
}  // namespace crema
