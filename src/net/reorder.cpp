#include "net/reorder.hpp"

#include "net/cast.hpp"

namespace crema {

namespace {

template <class Stored>
std::vector<float> FloatsInCaffeOrder(const Tensor& tensor) {
  const std::vector<Stored> values = tensor.ToHost<Stored>();
  std::vector<float> out(values.size());
  const Shape& shape = tensor.shape();
  const bool image = shape.size() == 4;
  const int64_t channels = image ? shape[1] : 1, inner = image ? shape[2] * shape[3] : tensor.count();
  const Channel order{1, channels / (image ? tensor.block() : 1), inner, image ? tensor.block() : 1};
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const int64_t from = order.at(i / (channels * inner), i / inner % channels, i % inner);
    out[static_cast<size_t>(i)] = static_cast<float>(values[static_cast<size_t>(from)]);
  }
  return out;
}

}  // namespace

void Reorder::Reshape(const Context&, const Blobs& bottom, const Blobs& top) {
  top[0]->Reshape(dtype_, bottom[0]->shape(), block_);
  top[0]->set_placement(bottom[0]->placement());
}

void Reorder::Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) {
  Cast(ctx, bottom[0]->data(), 1, &top[0]->data());
}

void Reorder::Backward(const Context& ctx, const Blobs& top, const Blobs& bottom) {
  const bool from = Has16Bits(top[0]->dtype()), to = Has16Bits(bottom[0]->dtype());
  const double factor = from == to ? 1 : to ? ctx.grad_scale : 1 / ctx.grad_scale;
  Cast(ctx, top[0]->grad(), factor, &bottom[0]->grad());
}

std::vector<float> ToCaffeOrder(const Tensor& tensor) {
  if (tensor.dtype() == DType::kI64) return FloatsInCaffeOrder<int64_t>(tensor);
  std::vector<float> values;
  ForBlob(tensor.dtype(), [&]<class, class Stored>() { values = FloatsInCaffeOrder<Stored>(tensor); });
  return values;
}

}  // namespace crema
