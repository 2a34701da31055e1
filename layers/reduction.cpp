// Reduction: coeff times the sum, mean, or sum of absolute values or of squares over the axes from `axis` on.
// Of a bottom of 16 bits the top is f32.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Rows of `length` elements, each reduced to one number.
template <class T, class S>
struct ReductionTerm {
  const S* x;
  int64_t length;
  ReductionParameter::ReductionOp operation;
  T factor;
  CREMA_HD T operator()(int64_t row, int64_t k) const {
    const T v = static_cast<T>(x[row * length + k]);
    if (operation == ReductionParameter::ASUM) return factor * (v < 0 ? -v : v);
    return factor * (operation == ReductionParameter::SUMSQ ? v * v : v);
  }
};

template <class T, class S>
struct ReductionBottomGrad {
  const S* x;
  const T* dy;
  S* dx;
  int64_t length;
  ReductionParameter::ReductionOp operation;
  T factor;
  CREMA_HD void operator()(int64_t i) const {
    T grad = factor * dy[i / length];
    if (operation == ReductionParameter::ASUM) {
      const T v = static_cast<T>(x[i]);
      grad *= static_cast<T>((v > 0) - (v < 0));
    } else if (operation == ReductionParameter::SUMSQ) {
      grad *= 2 * static_cast<T>(x[i]);
    }
    Store(grad, dx + i);
  }
};

struct Reduction final : Layer {
  using Layer::Layer;
  Bits16 bits16() const override { return Bits16::kFollows; }
  // Within a sample, the order of what is summed has no meaning.
  Layouts layouts() const override {
    return options().axis() == 0 || options().axis() == 1 ? Layouts::kSame : Layouts::kCaffe;
  }
  Reads BackwardReads() const override {
    return operation() == ReductionParameter::ASUM || operation() == ReductionParameter::SUMSQ
               ? Reads::kBottom
               : Reads::kNothing;
  }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const Blob& x = *bottom[0];
    const int64_t axis = x.axes() == 0 && options().axis() == 0 ? 0 : x.Axis(options().axis());
    rows_ = x.count(0, axis), length_ = x.count(axis);
    Check(length_ > 0, "bottom '", x.name(), "' of shape ", ToString(x.shape()),
          " has nothing to reduce from axis ", axis, " on");
    top[0]->Reshape(RealOf(x.dtype()), Shape(x.shape().begin(), x.shape().begin() + axis));
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      RowReduce<Reduce::kSum>(
          ctx, rows_, length_,
          ReductionTerm<T, S>{x.data<S>(), length_, operation(), static_cast<T>(factor())}, y.data<T>());
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    Blob &x = *bottom[0], &y = *top[0];
    ForBlob(x.dtype(), [&]<class T, class S>() {
      // The gradients of the bottom are times the scale where those of the top are not.
      const double scale = Has16Bits(x.dtype()) ? ctx.grad_scale : 1;
      ForEach(ctx, x.count(),
              ReductionBottomGrad<T, S>{x.data<S>(), y.grad<T>(), x.grad<S>(), length_, operation(),
                                        static_cast<T>(factor() * scale)});
    });
  }

 private:
  const ReductionParameter& options() const { return spec().reduction_param(); }
  ReductionParameter::ReductionOp operation() const { return options().operation(); }
  double factor() const {
    const double divisor = operation() == ReductionParameter::MEAN ? static_cast<double>(length_) : 1;
    return static_cast<double>(options().coeff()) / divisor;
  }

  int64_t rows_ = 0, length_ = 0;
};

CREMA_REGISTER_LAYER(Reduction, "reduction_param");

}  // namespace
}  // namespace crema
