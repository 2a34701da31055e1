// Crop: the first bottom cut to the size of the second along the axes from `axis` on, beginning at the
// offsets.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

constexpr int kMostCropAxes = 8;

// Where element i of the cut lies in the whole.
struct CropPlace {
  int axes = 0;
  int64_t part[kMostCropAxes] = {}, whole[kMostCropAxes] = {}, offset[kMostCropAxes] = {};
  CREMA_HD int64_t at(int64_t i) const {
    int64_t place = 0, stride = 1;
    for (int axis = axes - 1; axis >= 0; --axis) {
      place += (offset[axis] + i % part[axis]) * stride;
      stride *= whole[axis], i /= part[axis];
    }
    return place;
  }
};

template <class S>
struct CropForward {
  const S* x;
  S* y;
  CropPlace place;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[place.at(i)]; }
};

template <class S>
struct CropBottomGrad {
  const S* dy;
  S* dx;
  CropPlace place;
  CREMA_HD void operator()(int64_t i) const { dx[place.at(i)] = dy[i]; }
};

struct Crop final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, 2, 1, 1}; }
  Bits16 bits16() const override { return Bits16::kFollows; }
  Layouts layouts() const override { return Layouts::kCaffe; }
  bool BottomHasGradient(int index) const override { return index == 0; }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const CropParameter& options = spec().crop_param();
    const Blob &x = *bottom[0], &size = *bottom[1];
    const int64_t first = x.Axis(options.axis());
    Check(x.axes() <= kMostCropAxes, "bottom '", x.name(), "' has ", x.axes(), " axes; expected at most ",
          kMostCropAxes);
    Check(size.axes() == x.axes(), "bottoms '", x.name(), "' (", ToString(x.shape()), ") and '", size.name(),
          "' (", ToString(size.shape()), ") have different numbers of axes");
    Check(options.offset_size() <= 1 || options.offset_size() == x.axes() - first, "it has ",
          options.offset_size(), " offsets; expected none, one, or ", x.axes() - first,
          ", one for each axis from ", first, " on");
    place_ = CropPlace{};
    place_.axes = static_cast<int>(x.axes());
    Shape shape = x.shape();
    for (int64_t axis = 0; axis < x.axes(); ++axis) {
      const bool cut = axis >= first;
      const int offsets = options.offset_size(), own = static_cast<int>(axis - first);
      const int64_t offset = !cut || offsets == 0 ? 0 : options.offset(offsets == 1 ? 0 : own);
      if (cut) shape[static_cast<size_t>(axis)] = size.dim(axis);
      place_.part[axis] = shape[static_cast<size_t>(axis)];
      place_.whole[axis] = x.dim(axis), place_.offset[axis] = offset;
      Check(offset + place_.part[axis] <= x.dim(axis), "axis ", axis, " of '", x.name(), "' has ",
            x.dim(axis), " places; ", place_.part[axis], " from ", offset, " on do not fit");
    }
    top[0]->Reshape(x.dtype(), shape);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class, class S>() {
      ForEach(ctx, y.count(), CropForward<S>{x.data<S>(), y.data<S>(), place_});
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    x.grad().Zero();
    ForBlob(x.dtype(), [&]<class, class S>() {
      ForEach(ctx, y.count(), CropBottomGrad<S>{y.grad<S>(), x.grad<S>(), place_});
    });
  }

 private:
  CropPlace place_;
};

CREMA_REGISTER_LAYER(Crop, "crop_param");

}  // namespace
}  // namespace crema
