// Eltwise: product, weighted sum or maximum of bottoms of one shape, element by element.
#include "crema/layer.hpp"
#include "crema/parallel.hpp"

namespace crema {
namespace {

// Two bottoms, or what the top holds already and the next bottom.
template <class T>
struct EltwiseSum {
  const T *a, *b;
  T coeff_a, coeff_b;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = coeff_a * a[i] + coeff_b * b[i]; }
};

template <class T>
struct EltwiseProduct {
  const T *a, *b;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = a[i] * b[i]; }
};

template <class T>
struct EltwiseMaximum {
  const T *a, *b;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = a[i] > b[i] ? a[i] : b[i]; }
};

template <class T>
struct EltwiseSumGrad {
  const T* dy;
  T coeff;
  T* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = coeff * dy[i]; }
};

template <class T>
struct EltwiseCopy {
  const T* x;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] = x[i]; }
};

template <class T>
struct EltwiseTimes {
  const T* x;
  T* y;
  CREMA_HD void operator()(int64_t i) const { y[i] *= x[i]; }
};

template <class T>
struct EltwiseQuotientGrad {  // dy * (product of all) / x: quick, but 0 / 0 where x is 0
  const T *x, *y, *dy;
  T* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = dy[i] * (y[i] / x[i]); }
};

template <class T>
struct EltwiseMaxStart {
  const T *x, *y, *dy;
  T* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = x[i] == y[i] ? dy[i] : T(0); }
};

template <class T>
struct EltwiseMaxTaken {  // a later bottom has the same value and with it the gradient
  const T *later, *y;
  T* dx;
  CREMA_HD void operator()(int64_t i) const { dx[i] = later[i] == y[i] ? T(0) : dx[i]; }
};

struct Eltwise final : Layer {
  using Layer::Layer;
  Arity arity() const override { return {2, -1, 1, 1}; }
  Reads BackwardReads() const override {
    if (options().operation() == EltwiseParameter::SUM) return Reads::kNothing;
    return options().operation() == EltwiseParameter::MAX || !options().stable_prod_grad() ? Reads::kBoth
                                                                                           : Reads::kBottom;
  }

  void Reshape(const Context&, const Blobs& bottom, const Blobs& top) override {
    const int coeffs = options().coeff_size();
    Check(coeffs == 0 || coeffs == static_cast<int>(bottom.size()), "it has ", coeffs,
          " factors (coeff) for ", bottom.size(), " bottoms; expected one each or none");
    Check(coeffs == 0 || options().operation() == EltwiseParameter::SUM,
          "coeff is given, which belongs to operation SUM");
    for (const Blob* x : bottom) {
      Check(x->shape() == bottom[0]->shape() && x->dtype() == bottom[0]->dtype(), "bottom '", x->name(),
            "' is ", ToString(x->shape()), " ", NameOf(x->dtype()), " where '", bottom[0]->name(), "' is ",
            ToString(bottom[0]->shape()), " ", NameOf(bottom[0]->dtype()), "; expected the same");
    }
    top[0]->ReshapeLike(*bottom[0]);
  }

  void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      T* y = top[0]->data<T>();
      for (size_t k = 1; k < bottom.size(); ++k) {
        const T *a = k == 1 ? bottom[0]->data<T>() : y, *b = bottom[k]->data<T>();
        if (options().operation() == EltwiseParameter::SUM) {
          const T coeff_a = k == 1 ? static_cast<T>(coeff(0)) : T(1);
          ForEach(ctx, top[0]->count(), EltwiseSum<T>{a, b, coeff_a, static_cast<T>(coeff(k)), y});
        } else if (options().operation() == EltwiseParameter::PROD) {
          ForEach(ctx, top[0]->count(), EltwiseProduct<T>{a, b, y});
        } else {
          ForEach(ctx, top[0]->count(), EltwiseMaximum<T>{a, b, y});
        }
      }
    });
  }

  void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) override {
    ForReal(top[0]->dtype(), [&]<class T>() {
      for (size_t k = 0; k < bottom.size(); ++k) {
        if (bottom[k]->needs_grad()) BottomGrad<T>(ctx, *top[0], bottom, k);
      }
    });
  }

 private:
  const EltwiseParameter& options() const { return spec().eltwise_param(); }
  float coeff(size_t k) const {
    return options().coeff_size() == 0 ? 1 : options().coeff(static_cast<int>(k));
  }

  template <class T>
  void BottomGrad(const Context& ctx, Blob& y, const Blobs& bottom, size_t k) {
    const int64_t count = y.count();
    const T* dy = y.grad<T>();
    T* dx = bottom[k]->grad<T>();
    if (options().operation() == EltwiseParameter::SUM) {
      ForEach(ctx, count, EltwiseSumGrad<T>{dy, static_cast<T>(coeff(k)), dx});
    } else if (options().operation() == EltwiseParameter::MAX) {
      ForEach(ctx, count, EltwiseMaxStart<T>{bottom[k]->data<T>(), y.data<T>(), dy, dx});
      for (size_t j = k + 1; j < bottom.size(); ++j) {
        ForEach(ctx, count, EltwiseMaxTaken<T>{bottom[j]->data<T>(), y.data<T>(), dx});
      }
    } else if (options().stable_prod_grad()) {
      ForEach(ctx, count, EltwiseCopy<T>{dy, dx});
      for (size_t j = 0; j < bottom.size(); ++j) {
        if (j != k) ForEach(ctx, count, EltwiseTimes<T>{bottom[j]->data<T>(), dx});
      }
    } else {
      ForEach(ctx, count, EltwiseQuotientGrad<T>{bottom[k]->data<T>(), y.data<T>(), dy, dx});
    }
  }
};

CREMA_REGISTER_LAYER(Eltwise, "eltwise_param");

}  // namespace
}  // namespace crema
