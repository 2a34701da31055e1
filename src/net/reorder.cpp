#include "net/reorder.hpp"

#include "crema/parallel.hpp"

namespace crema {

namespace {

// to[i] = the element of `from` at the same sample, channel and position.
template <class T, class U>
struct ReorderElement {
  const T* from;
  U* to;
  Channel from_order, to_order;
  CREMA_HD void operator()(int64_t i) const {
    const int64_t block = to_order.block, inner = to_order.inner;
    const int64_t s = i / block % inner, n = i / (block * inner * to_order.groups);
    to[i] = static_cast<U>(from[from_order.at(n, to_order(i), s)]);
  }
};

Channel OrderOf(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  if (shape.size() != 4) return {1, 1, tensor.count(), 1};
  return {shape[0], shape[1] / tensor.block(), shape[2] * shape[3], tensor.block()};
}

template <class T>
std::vector<float> FloatsInCaffeOrder(const Tensor& tensor) {
  const std::vector<T> values = tensor.ToHost<T>();
  std::vector<float> out(values.size());
  Channel from = OrderOf(tensor), to = from;
  to.groups = from.channels(), to.block = 1;
  const ReorderElement<T, float> reorder{values.data(), out.data(), from, to};
  for (int64_t i = 0; i < tensor.count(); ++i) reorder(i);
  return out;
}

}  // namespace

void Reorder::Reshape(const Context&, const Blobs& bottom, const Blobs& top) {
  top[0]->Reshape(bottom[0]->dtype(), bottom[0]->shape(), block_);
  top[0]->set_placement(bottom[0]->placement());
}

void Reorder::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  ForReal(top[0]->dtype(), [&]<class T>() {
    ForEach(ctx, top[0]->count(),
            ReorderElement<T, T>{bottom[0]->data<T>(), top[0]->data<T>(), bottom[0]->channel(),
                                 top[0]->channel()});
  });
}

void Reorder::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  ForReal(top[0]->dtype(), [&]<class T>() {
    ForEach(ctx, top[0]->count(),
            ReorderElement<T, T>{top[0]->grad<T>(), bottom[0]->grad<T>(), top[0]->channel(),
                                 bottom[0]->channel()});
  });
}

std::vector<float> ToCaffeOrder(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kF64:
      return FloatsInCaffeOrder<double>(tensor);
    case DType::kI64:
      return FloatsInCaffeOrder<int64_t>(tensor);
    default:
      return FloatsInCaffeOrder<float>(tensor);
  }
}

}  // namespace crema
