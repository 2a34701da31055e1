// Floor 4. Embedder: the part of a net between an image and its embedding, run on pixels. Called by tools and
// by embedders of the library.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// The part of a net that leads to one blob, in the TEST phase, behind one Input layer.
struct EmbeddingNet {
  NetParameter net;
  std::string input, blob;
  int64_t channels = 3, height = 0,
          width = 0;  // of the input; height and width 0 where the net takes any size
  // What the net's own data layer does to an image. A deploy net, which starts with an Input layer, has none.
  bool has_data_layer = false;
  TransformationParameter transform;
  int64_t resize_height = 0, resize_width = 0;  // an ImageData layer's new_height and new_width
};

// Cuts a training net or a deploy net; `from` names its file in messages. An empty `blob` stands for the
// embedding that the head classifies: the bottom of DistPartialFC, or of the InnerProduct under a softmax
// loss; in a net without a head it stays empty and the net stays whole (Embedder then takes the last top with
// two axes). Throws Error where the blob is unknown or needs more than one input.
EmbeddingNet CutAtEmbedding(const NetParameter& net, const std::string& blob, const std::string& from);

// The net alone, as other readers of Caffe's files take it: for images of a size (0: that of `net`), without
// what only training needs. Throws Error where no size is known or the two differ.
NetParameter DeployNet(const EmbeddingNet& net, int64_t height, int64_t width);

// An image as decoders give it: rows of pixels, their channels (B, G, R) together.
struct Pixels {
  const uint8_t* data = nullptr;
  int64_t height = 0, width = 0, channels = 3;
};

class Embedder {
 public:
  // For images of `height` x `width`. Throws Error where the net's input has another size after
  // `net.transform`'s crop.
  Embedder(const Context& ctx, const EmbeddingNet& net, int64_t height, int64_t width);

  // Copies weights by layer name. Throws Error for weights of another shape.
  void CopyWeights(const NetParameter& weights, const std::string& from);
  // Throws Error naming the layers whose weights no file has given.
  void RequireAllWeights() const;

  const std::string& blob() const { return spec_.blob; }
  int64_t dim() const { return dim_; }
  int64_t batch() const { return batch_; }
  void SetBatch(const Context& ctx, int64_t batch);  // images per pass; 1 at first

  // The net's input from an image: centre crop, (pixel - mean) * scale, channel order; [channels, height,
  // width]. Safe to call from several threads.
  int64_t input_count() const { return spec_.channels * crop_height_ * crop_width_; }
  void Prepare(const Pixels& image, bool mirror, float* input) const;
  // Embeddings [batch, dim], as the net gives them, of inputs [batch, input_count].
  std::vector<float> Run(const Context& ctx, const std::vector<float>& inputs);

 private:
  void LoadMean();

  EmbeddingNet spec_;
  int64_t image_height_, image_width_, crop_height_ = 0, crop_width_ = 0;
  std::vector<float> mean_;  // one, one per channel, or one per value of an uncropped image
  std::unique_ptr<Net> net_;
  int64_t dim_ = 0, batch_ = 1;
  std::vector<std::string> without_weights_;  // layers
};

}  // namespace crema
