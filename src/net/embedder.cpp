#include "crema/embedder.hpp"

#include <algorithm>
#include <set>

#include <glog/logging.h>

#include "crema/io.hpp"
#include "net/filter.hpp"

namespace crema {
namespace {

bool Contains(const google::protobuf::RepeatedPtrField<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsData(const LayerParameter& layer) {
  return layer.type() == "Data" || layer.type() == "ImageData";
}

// Whether the layer can be nothing but the classifier of a face net.
bool IsHead(const LayerParameter& layer) {
  return layer.type() == "DistPartialFC" || layer.type() == "MarginInnerProduct" ||
         layer.type() == "LargeMarginInnerProduct" ||
         (layer.type() == "InnerProduct" && layer.inner_product_param().normalize());
}

// The blob that the net's head classifies, or "".
std::string BlobUnderHead(const NetParameter& net) {
  for (const LayerParameter& layer : net.layer())
    if (IsHead(layer) && layer.bottom_size() > 0) return layer.bottom(0);
  for (const LayerParameter& loss : net.layer()) {
    if ((loss.type() != "SoftmaxWithLoss" && loss.type() != "MarginSoftmax") || loss.bottom_size() == 0)
      continue;
    for (const LayerParameter& layer : net.layer())
      if (layer.type() == "InnerProduct" && layer.bottom_size() > 0 && Contains(layer.top(), loss.bottom(0)))
        return layer.bottom(0);
  }
  return "";
}

// Keeps the layers that lead to `blob`, its last version; `inputs` receives the blobs they need from outside.
NetParameter LayersTo(const NetParameter& net, const std::string& blob, std::set<std::string>* inputs) {
  std::vector<const LayerParameter*> kept;
  std::set<std::string> needed = {blob};
  for (int i = net.layer_size(); i-- > 0;) {
    const LayerParameter& layer = net.layer(i);
    if (layer.bottom_size() == 0) continue;  // a source: what is still needed at the end comes from there
    const bool leads = std::any_of(layer.top().begin(), layer.top().end(),
                                   [&](const std::string& top) { return needed.count(top) > 0; });
    if (!leads) continue;
    kept.push_back(&layer);
    for (const std::string& top : layer.top()) needed.erase(top);
    needed.insert(layer.bottom().begin(), layer.bottom().end());
  }
  NetParameter out = net;
  out.clear_layer();
  for (auto layer = kept.rbegin(); layer != kept.rend(); ++layer) *out.add_layer() = **layer;
  *inputs = needed;
  return out;
}

// Without a blob to lead to: all layers but sources and those that need a label.
NetParameter WithoutLabels(const NetParameter& net, std::set<std::string>* inputs) {
  NetParameter out = net;
  out.clear_layer();
  std::set<std::string> known;
  for (const LayerParameter& layer : net.layer()) {
    if (layer.bottom_size() == 0) {
      if (layer.top_size() > 0) known.insert(layer.top(0)), inputs->insert(layer.top(0));
      continue;
    }
    const bool complete = std::all_of(layer.bottom().begin(), layer.bottom().end(),
                                      [&](const std::string& name) { return known.count(name) > 0; });
    if (!complete) continue;
    known.insert(layer.top().begin(), layer.top().end());
    *out.add_layer() = layer;
  }
  return out;
}

void TakeSource(const LayerParameter& source, int top, EmbeddingNet* cut, const std::string& from) {
  if (IsData(source)) {
    cut->has_data_layer = true;
    cut->transform = source.transform_param();
    cut->height = cut->width = source.transform_param().crop_size();
    cut->channels = source.transform_param().force_gray() || !source.image_data_param().is_color() ? 1 : 3;
    cut->resize_height = source.image_data_param().new_height();
    cut->resize_width = source.image_data_param().new_width();
    return;
  }
  const InputParameter& input = source.input_param();
  const int index = std::min(top, input.shape_size() - 1);
  Require(source.type() == "Input" && index >= 0 && input.shape(index).dim_size() == 4, "the blob '",
          source.top(top), "' of ", from, " is made by layer '", source.name(), "' (", source.type(),
          ") where an Input layer of a shape with four axes or a data layer was expected");
  cut->channels = input.shape(index).dim(1);
  cut->height = input.shape(index).dim(2);
  cut->width = input.shape(index).dim(3);
}

void AddInput(EmbeddingNet* cut) {
  LayerParameter input;
  input.set_name(cut->input);
  for (const LayerParameter& layer : cut->net.layer())
    if (layer.name() == input.name()) input.set_name(cut->input + "_input");
  input.set_type("Input");
  input.add_top(cut->input);
  BlobShape* shape = input.mutable_input_param()->add_shape();
  for (int64_t size : {int64_t{1}, cut->channels, cut->height, cut->width}) shape->add_dim(size);
  cut->net.mutable_layer()->Add(std::move(input));
  auto* layers = cut->net.mutable_layer();
  std::rotate(layers->pointer_begin(), layers->pointer_end() - 1, layers->pointer_end());
}

}  // namespace

EmbeddingNet CutAtEmbedding(const NetParameter& net, const std::string& blob, const std::string& from) {
  EmbeddingNet cut;
  NetOptions state;
  state.phase = TRAIN;  // the head may be there in training only
  const NetParameter training = FilterNet(net, state);
  cut.blob = !blob.empty() ? blob : BlobUnderHead(training);
  state.phase = TEST;
  const NetParameter test = FilterNet(net, state);
  std::set<std::string> inputs;
  if (cut.blob.empty()) {
    cut.net = WithoutLabels(test, &inputs);
  } else {
    std::string known, last;
    bool found = false;
    for (const LayerParameter& layer : test.layer()) {
      for (const std::string& top : layer.top()) {
        found |= top == cut.blob;
        if (top != last) known += (known.empty() ? "" : ", ") + top;
        last = top;
      }
    }
    if (known.size() > 300) known = "..." + known.substr(known.size() - 300);
    Require(found, "the net ", from, " has no blob '", cut.blob, "' in the TEST phase; its blobs are ",
            known);
    cut.net = LayersTo(test, cut.blob, &inputs);
  }
  std::string listed;
  for (const std::string& name : inputs) listed += (listed.empty() ? "" : ", ") + name;
  Require(inputs.size() == 1 && cut.net.layer_size() > 0, "the blob '", cut.blob, "' of ", from, " needs ",
          inputs.size(), " inputs (", listed, ") where layers above one image blob were expected");
  cut.input = *inputs.begin();
  const LayerParameter* source = nullptr;  // a net that is not tested may have none but in training
  for (const NetParameter* phase : {&training, &test})
    for (const LayerParameter& layer : phase->layer())
      if (layer.bottom_size() == 0 && Contains(layer.top(), cut.input)) source = &layer;
  Require(source != nullptr, "the blob '", cut.input, "' of ", from, " is made by no layer");
  int top = 0;
  while (source->top(top) != cut.input) ++top;
  TakeSource(*source, top, &cut, from);
  AddInput(&cut);
  return cut;
}

NetParameter DeployNet(const EmbeddingNet& net, int64_t height, int64_t width) {
  if (height == 0) height = net.height, width = net.width;
  Require(height > 0 && width > 0, "the net does not say how large its images are");
  Require(net.height == 0 || (net.height == height && net.width == width), "the net's images are ",
          net.height, "x", net.width, ", not ", height, "x", width);
  NetParameter deploy = net.net;
  deploy.clear_state();
  deploy.clear_fuse();
  for (LayerParameter& layer : *deploy.mutable_layer()) {
    layer.clear_phase(), layer.clear_include(), layer.clear_exclude(), layer.clear_blobs();
    layer.clear_param(), layer.clear_propagate_down(), layer.clear_loss_weight();
    if (layer.has_convolution_param()) {
      layer.mutable_convolution_param()->clear_weight_filler();
      layer.mutable_convolution_param()->clear_bias_filler();
    }
    if (layer.has_inner_product_param()) {
      layer.mutable_inner_product_param()->clear_weight_filler();
      layer.mutable_inner_product_param()->clear_bias_filler();
    }
  }
  BlobShape* shape = deploy.mutable_layer(0)->mutable_input_param()->mutable_shape(0);
  shape->set_dim(2, height), shape->set_dim(3, width);
  return deploy;
}

// ----------------------------------------------------------------------------------------------- Embedder

namespace {

std::string LastWithTwoAxes(const Net& net) {
  std::string blob;
  for (const Net::Step& step : net.steps())
    for (const Blob* top : step.top)
      if (top->axes() == 2) blob = top->name();
  Require(!blob.empty(), "net '", net.name(),
          "' has no blob with two axes to take as the embedding; name one");
  return blob;
}

}  // namespace

Embedder::Embedder(const Context& ctx, const EmbeddingNet& net, int64_t height, int64_t width)
    : spec_(net), image_height_(height), image_width_(width) {
  const int64_t crop = spec_.transform.crop_size();
  crop_height_ = crop > 0 ? crop : height;
  crop_width_ = crop > 0 ? crop : width;
  Require(crop <= height && crop <= width, "the images are ", width, "x", height,
          ", less than the net's crop of ", crop, "x", crop);
  Require(
      (spec_.height == 0 && spec_.width == 0) || (spec_.height == crop_height_ && spec_.width == crop_width_),
      "the images are ", width, "x", height, ", but the net's input '", spec_.input, "' is ", spec_.width,
      "x", spec_.height);
  LoadMean();
  NetParameter sized = spec_.net;
  BlobShape* shape = sized.mutable_layer(0)->mutable_input_param()->mutable_shape(0);
  shape->set_dim(2, crop_height_);
  shape->set_dim(3, crop_width_);
  if (spec_.blob.empty()) {
    spec_.blob = LastWithTwoAxes(Net(ctx, sized, NetOptions()));
    sized = CutAtEmbedding(sized, spec_.blob, "the net").net;
  }
  net_ = std::make_unique<Net>(ctx, sized, NetOptions());
  dim_ = net_->blob(spec_.blob).count(1);
  for (const auto& layer : net_->layers())
    if (!layer->params().empty()) without_weights_.push_back(layer->name());
}

void Embedder::LoadMean() {
  const TransformationParameter& transform = spec_.transform;
  const int64_t channels = spec_.channels;
  mean_.assign(transform.mean_value().begin(), transform.mean_value().end());
  if (!transform.mean_file().empty()) {
    Require(mean_.empty(), "the data layer has both mean_value and mean_file");
    BlobProto blob;
    ReadBinary(transform.mean_file(), &blob);
    mean_.assign(blob.data().begin(), blob.data().end());
    Require(static_cast<int64_t>(mean_.size()) == channels * image_height_ * image_width_, "the mean image ",
            transform.mean_file(), " has ", mean_.size(), " values where ", channels, "x", image_height_, "x",
            image_width_, " were expected");
  } else {
    if (mean_.empty()) mean_ = {0};
    Require(mean_.size() == 1 || static_cast<int64_t>(mean_.size()) == channels, "there are ", mean_.size(),
            " mean values for ", channels, " channels; expected one, or one per channel");
    if (mean_.size() == 1) mean_.resize(static_cast<size_t>(channels), mean_[0]);
  }
}

void Embedder::CopyWeights(const NetParameter& weights, const std::string& from) {
  net_->CopyWeights(weights, from);
  for (const LayerParameter& layer : weights.layer())
    if (layer.blobs_size() > 0) std::erase(without_weights_, layer.name());
}

void Embedder::RequireAllWeights() const {
  std::string names;
  for (size_t i = 0; i < without_weights_.size() && i < 5; ++i)
    names += (i ? ", " : "") + without_weights_[i];
  Require(without_weights_.empty(), "the weights lack ", without_weights_.size(), " of the net's layers (",
          names, without_weights_.size() > 5 ? ", ..." : "", "): they belong to another net");
}

void Embedder::SetBatch(const Context& ctx, int64_t batch) {
  if (batch == batch_) return;
  batch_ = batch;
  net_->ReshapeInput(ctx, spec_.input, {batch, spec_.channels, crop_height_, crop_width_});
}

void Embedder::Prepare(const Pixels& image, bool mirror, float* input) const {
  CHECK(image.height == image_height_ && image.width == image_width_ && image.channels == spec_.channels);
  const int64_t top = (image_height_ - crop_height_) / 2, left = (image_width_ - crop_width_) / 2;
  const bool mean_image = !spec_.transform.mean_file().empty();
  const float scale = spec_.transform.scale();
  for (int64_t c = 0; c < spec_.channels; ++c) {
    const int64_t from = spec_.transform.rgb() && spec_.channels == 3 ? 2 - c : c;  // channel in B, G, R
    for (int64_t y = 0; y < crop_height_; ++y) {
      const int64_t row = (top + y) * image_width_ + left;
      for (int64_t x = 0; x < crop_width_; ++x) {
        const float mean =
            mean_[static_cast<size_t>(mean_image ? from * image_height_ * image_width_ + row + x : from)];
        const float pixel = image.data[(row + x) * image.channels + from];
        const int64_t to = mirror ? crop_width_ - 1 - x : x;
        input[(c * crop_height_ + y) * crop_width_ + to] = (pixel - mean) * scale;
      }
    }
  }
}

std::vector<float> Embedder::Run(const Context& ctx, const std::vector<float>& inputs) {
  net_->SetInput(spec_.input, inputs);
  net_->Forward(ctx);
  return net_->BlobValues(spec_.blob);
}

}  // namespace crema
