// Weights into and out of a net, as Caffe keeps them.
#include <algorithm>
#include <iterator>

#include "crema/bfloat16.hpp"
#include "crema/net.hpp"

namespace crema {

namespace {

Shape ShapeOf(const BlobProto& blob) {
  if (blob.has_shape()) return Shape(blob.shape().dim().begin(), blob.shape().dim().end());
  if (blob.has_num() || blob.has_channels() || blob.has_height() || blob.has_width()) {
    return {blob.num(), blob.channels(), blob.height(), blob.width()};
  }
  return {std::max(blob.data_size(), blob.double_data_size())};
}

// Legacy blobs have four axes, so leading ones do not count.
Shape WithoutLeadingOnes(const Shape& shape) {
  size_t first = 0;
  while (first < shape.size() && shape[first] == 1) ++first;
  return Shape(shape.begin() + static_cast<int64_t>(first), shape.end());
}

template <class T>
std::vector<T> ValuesOf(const BlobProto& blob) {
  std::vector<T> values;
  const auto convert = [](auto x) { return static_cast<T>(x); };
  if (blob.double_data_size() > 0) {
    std::transform(blob.double_data().begin(), blob.double_data().end(), std::back_inserter(values), convert);
  } else {
    std::transform(blob.data().begin(), blob.data().end(), std::back_inserter(values), convert);
  }
  return values;
}

// A sharded param takes its own rows of the whole.
void CopyBlob(const BlobProto& blob, const std::string& where, Param* param) {
  Shape whole = param->shape;
  if (param->sharded) whole[0] = param->total_rows;
  const Shape found = ShapeOf(blob);
  Require(WithoutLeadingOnes(found) == WithoutLeadingOnes(whole), where, " has shape ", ToString(found),
          ", but the net's has ", ToString(whole),
          "; to train this layer from its filler instead, give it another name in the net");
  const int64_t row = param->row_length();
  ForStored(DType::kF32, param->dtype, [&]<class, class T>() {
    const std::vector<T> values = ValuesOf<T>(blob);
    Require(static_cast<int64_t>(values.size()) == CountOf(whole), where, " has ", values.size(),
            " values, but its shape ", ToString(found), " needs ", CountOf(whole));
    if (param->assignment) {
      for (int64_t r = 0; r < param->row_count(); ++r)
        param->value.Rows(r, r + 1).CopyFromHost(
            values.data() + param->ClassOfRow(param->first_row + r) * row, row);
      return;
    }
    param->value.CopyFromHost(values.data() + (param->sharded ? param->first_row * row : 0),
                              param->value.count());
  });
}

void SaveBlob(const Param& param, BlobProto* blob) {
  for (int64_t size : param.shape) blob->mutable_shape()->add_dim(size);
  if (param.dtype == DType::kF64) {
    for (double x : param.value.ToHost<double>()) blob->add_double_data(x);
  } else {
    const std::vector<float> values = param.value.ToHost<float>();
    blob->mutable_data()->Assign(values.begin(), values.end());
  }
}

}  // namespace

std::vector<std::string> Net::CopyWeights(const NetParameter& weights, const std::string& from) {
  std::vector<std::string> ignored;
  for (const LayerParameter& source : weights.layer()) {
    Layer* target = layer(source.name());
    if (target == nullptr) {
      if (source.blobs_size() > 0) ignored.push_back(source.name());
      continue;
    }
    if (source.blobs_size() == 0) continue;  // an unshared layer of a net saved without weights
    Require(static_cast<int>(target->params().size()) == source.blobs_size(), "layer '", source.name(),
            "' has ", source.blobs_size(), " weights in '", from, "', but ", target->params().size(),
            " in the net");
    for (int i = 0; i < source.blobs_size(); ++i) {
      const std::string where = Concat("weight ", i, " of layer '", source.name(), "' in '", from, "'");
      CopyBlob(source.blobs(i), where, target->params()[static_cast<size_t>(i)].get());
    }
  }
  return ignored;
}

NetParameter Net::ToProto() const {
  NetParameter out = spec_;
  for (int i = 0; i < out.layer_size(); ++i) {
    LayerParameter* saved = out.mutable_layer(i);
    saved->clear_blobs();
    for (const auto& param : layers_[static_cast<size_t>(i)]->params()) {
      if (!param->sharded) SaveBlob(*param, saved->add_blobs());
    }
  }
  return out;
}

}  // namespace crema
