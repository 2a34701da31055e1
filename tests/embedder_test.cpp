// Which part of a net leads to its embedding.
#include "crema/embedder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crema/io.hpp"

namespace crema {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

NetParameter Parse(const std::string& text) {
  NetParameter net;
  ParseText(text, "net", &net);
  return net;
}

std::vector<std::string> NamesOf(const NetParameter& net) {
  std::vector<std::string> names;
  for (const LayerParameter& layer : net.layer()) names.push_back(layer.name());
  return names;
}

const char kTraining[] = R"(
  layer { name: "faces" type: "Data" top: "data" top: "label" include { phase: TRAIN }
          transform_param { crop_size: 20 mean_value: 1 } data_param { source: "a" batch_size: 2 } }
  layer { name: "pairs" type: "Data" top: "data" top: "label" include { phase: TEST }
          transform_param { crop_size: 24 mean_value: 127.5 scale: 0.5 rgb: true } data_param { source: "b" } }
  layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" }
  layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
  layer { name: "side" type: "Pooling" bottom: "conv" top: "side" }
  layer { name: "fc5" type: "InnerProduct" bottom: "conv" top: "fc5" }
  layer { name: "head" type: "HEAD" bottom: "fc5" BOTTOM top: "logits" include { phase: TRAIN } }
  layer { name: "loss" type: "MarginSoftmax" bottom: "logits" bottom: "label" include { phase: TRAIN } }
  layer { name: "lfw" type: "VerificationAccuracy" bottom: "fc5" bottom: "label" include { phase: TEST } })";

std::string Training(const std::string& type, const std::string& label) {
  std::string text = kTraining;
  text.replace(text.find("HEAD"), 4, type);
  text.replace(text.find("BOTTOM"), 6, label);
  return text;
}

std::string Complaint(const std::string& net, const std::string& blob) {
  try {
    CutAtEmbedding(Parse(net), blob, "net.prototxt");
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(CutAtEmbedding, TakesWhatTheHeadClassifies) {
  for (const std::string& text :
       {Training("DistPartialFC", "bottom: \"label\" top: \"sampled\""), Training("InnerProduct", ""),
        Training("MarginInnerProduct", "bottom: \"label\" top: \"lambda\"")}) {
    const EmbeddingNet cut = CutAtEmbedding(Parse(text), "", "net.prototxt");
    EXPECT_EQ(cut.blob, "fc5");
    EXPECT_EQ(cut.input, "data");
    EXPECT_THAT(NamesOf(cut.net), ElementsAre("data", "conv", "relu", "fc5"));
    EXPECT_EQ(cut.net.layer(0).type(), "Input");
    EXPECT_TRUE(cut.has_data_layer);
    EXPECT_EQ(cut.height, 24);  // of the TEST phase
    EXPECT_EQ(cut.width, 24);
    EXPECT_TRUE(cut.transform.rgb());
    EXPECT_EQ(cut.transform.scale(), 0.5f);
  }
}

TEST(CutAtEmbedding, TakesTheBlobThatIsNamed) {
  const EmbeddingNet cut = CutAtEmbedding(Parse(Training("InnerProduct", "")), "side", "net.prototxt");
  EXPECT_THAT(NamesOf(cut.net), ElementsAre("data", "conv", "relu", "side"));
}

TEST(CutAtEmbedding, KeepsADeployNetWhole) {
  const EmbeddingNet cut = CutAtEmbedding(Parse(R"(
    input: "data" input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 24
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" }
    layer { name: "fc1" type: "InnerProduct" bottom: "conv" top: "fc1" }
    layer { name: "norm" type: "Normalize" bottom: "fc1" top: "norm" })"),
                                          "", "net.prototxt");
  EXPECT_EQ(cut.blob, "");
  EXPECT_THAT(NamesOf(cut.net), ElementsAre("data", "conv", "fc1", "norm"));
  EXPECT_FALSE(cut.has_data_layer);
  EXPECT_EQ(cut.height, 32);
  EXPECT_EQ(cut.width, 24);
}

TEST(CutAtEmbedding, NamesWhatIsWrong) {
  const std::string net = Training("InnerProduct", "");
  EXPECT_THAT(Complaint(net, "fc9"),
              HasSubstr("net.prototxt has no blob 'fc9' in the TEST phase; its blobs are "
                        "data, label, conv, side, fc5"));
  EXPECT_THAT(Complaint(net, "logits"), HasSubstr("has no blob 'logits'"));
  EXPECT_THAT(Complaint(R"(
    layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" })",
                        "sum"),
              HasSubstr("needs 2 inputs (a, b)"));
  EXPECT_THAT(Complaint(R"(
    layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "a" top: "fc" })",
                        "fc"),
              HasSubstr("where an Input layer of a shape with four axes or a data layer was expected"));
}

}  // namespace
}  // namespace crema
