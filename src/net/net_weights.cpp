// Weights into and out of a net, as Caffe keeps them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "crema/bfloat16.hpp"
#include "crema/net.hpp"
#include "net/weight_files.hpp"

namespace crema {

namespace {

static_assert(std::endian::native == std::endian::little);

// Bytes of a number of BlobProto.raw_data.
int64_t RawSize(const BlobProto& blob) {
  return blob.raw_data_type() == BlobProto::FLOAT16 ? 2 : blob.raw_data_type() == BlobProto::FLOAT ? 4 : 8;
}
int64_t RawCount(const BlobProto& blob) {
  return static_cast<int64_t>(blob.raw_data().size()) / RawSize(blob);
}

// The numbers of raw_data, which are little-endian as this machine's are.
template <class Stored, class T, class Convert>
std::vector<T> RawValues(const BlobProto& blob, const Convert& convert) {
  std::vector<Stored> stored(static_cast<size_t>(RawCount(blob)));
  std::memcpy(stored.data(), blob.raw_data().data(), stored.size() * sizeof(Stored));
  std::vector<T> values;
  std::transform(stored.begin(), stored.end(), std::back_inserter(values), convert);
  return values;
}

Shape ShapeOf(const BlobProto& blob) {
  if (blob.has_shape()) return Shape(blob.shape().dim().begin(), blob.shape().dim().end());
  if (blob.has_num() || blob.has_channels() || blob.has_height() || blob.has_width()) {
    return {blob.num(), blob.channels(), blob.height(), blob.width()};
  }
  return {std::max<int64_t>({blob.data_size(), blob.double_data_size(), RawCount(blob)})};
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
  if (blob.double_data_size() == 0 && blob.data_size() == 0 && blob.has_raw_data()) {
    switch (blob.raw_data_type()) {
      case BlobProto::FLOAT16:
        return RawValues<Float16, T>(blob,
                                     [](Float16 half) { return static_cast<T>(static_cast<float>(half)); });
      case BlobProto::FLOAT:
        return RawValues<float, T>(blob, convert);
      default:
        return RawValues<double, T>(blob, convert);
    }
  }
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
  ++param->rewritten;
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
  Require(weights.layers_size() == 0, "the weights of '", from,
          "' are in layers of 2014, which were not upgraded");
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

std::vector<std::string> CopyFittingWeights(const NetParameter& weights, const std::string& from, Net* net) {
  std::vector<std::string> ignored = net->CopyWeights(weights, from);
  const auto given = std::count_if(weights.layer().begin(), weights.layer().end(),
                                   [](const LayerParameter& layer) { return layer.blobs_size() > 0; });
  Require(static_cast<size_t>(given) > ignored.size(), "'", from, "' has weights for ", given,
          " layers, none of which is in the net; it is empty or of another net");
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
