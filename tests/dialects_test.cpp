// What happens to words of Caffe's forks that are not known here: refused with what to write instead, or
// skipped on request; and what stands for data layers where there is no data.
#include <gtest/gtest.h>

#include "crema/caffe_files.hpp"
#include "crema/net.hpp"
#include "data_fixtures.hpp"
#include "net/dialects.hpp"
#include "net/summary.hpp"

namespace crema {
namespace {

constexpr char kDialect[] = R"(name: 'net'
print_net_info: true
layer {
  name: 'in'
  type: 'Input'
  top: 'x'
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } }
}
layer {
  name: 'conv' type: 'Convolution' bottom: 'x' top: 'conv'
	convolution_param {
		num_output: 4	engine: MKL2017
		kernel_size: 3
  }
}
layer {
  name: 'bn' type: 'BatchNorm' bottom: 'conv' top: 'bn'
  batch_norm_param { scale_bias: true eps: 0.001 scale_filler { type: 'constant' value: 1 } }
}
layer {
  name: 'bn2' type: 'BatchNorm' bottom: 'bn' top: 'bn2'
  batch_norm_param { scale_bias: true }
}
layer {
  name: 'pool' type: 'Pooling' bottom: 'bn2' top: 'pool' pooling_param { kernel_size: 2 pool: AVE_TF }
}
)";

TEST(Dialects, AreRefusedWithWhatToWriteInstead) {
  const auto error = [](const std::string& text) {
    return ErrorOf([&] {
      NetParameter net;
      ParseText(text, "net.prototxt", &net, {.advice = AdviceOnWord});
    });
  };
  EXPECT_EQ(error(kDialect),
            "net.prototxt:2:15: NetParameter has no field \"print_net_info\"; leave it out, it does "
            "not change the result");
  EXPECT_EQ(error("layer {\n  batch_norm_param { scale_bias: true } }"),
            "net.prototxt:2:32: BatchNormParameter has no field \"scale_bias\"; write a Scale layer with "
            "bias_term: "
            "true behind the BatchNorm, its fillers in scale_param");
  EXPECT_EQ(error("layer { convolution_param { engine: MKL2017 } }"),
            "net.prototxt:1:37: the field \"engine\" has no value MKL2017; leave it out, it does not change "
            "the result");
  EXPECT_NE(
      error("layer { python_param { module: 'a' } }").find("it belongs to the type Python: it runs a class"),
      std::string::npos);
  EXPECT_NE(error("layer { transform_param { resize_param { prob: 1 } } }").find("convert_imageset"),
            std::string::npos);
  EXPECT_EQ(error("layer { nme: 'x' }"), "net.prototxt:1:12: LayerParameter has no field \"nme\"");
  EXPECT_EQ(
      error("net: 'x'"),
      "net.prototxt:1:4: NetParameter has no field \"net\"; this looks like a solver's prototxt where a "
      "net's was expected");
  EXPECT_EQ(error("layer { pooling_param { ceil_mode: false } data_param { shuffle: true } }"), "");
  SolverParameter solver;
  EXPECT_NE(ErrorOf([&] {
              ParseText("device_id: [0, 1]", "s", &solver, {.advice = AdviceOnWord});
            }).find("--gpu=0,1"),
            std::string::npos);
}

TEST(Text, OfOtherEditorsIsReadAndBinaryIsRefused) {
  const auto error = [](const std::string& text) {
    return ErrorOf([&] {
      NetParameter net;
      ParseText(text, "net.prototxt", &net);
      Require(net.name() == "old", "the net is not named old");
    });
  };
  EXPECT_EQ(error("\xEF\xBB\xBFname: 'old'"), "");
  EXPECT_EQ(error("name:\t'old'\r\nlayer { }\r\n"), "");
  EXPECT_EQ(error("# na\xC3\xAFve\nname: 'old'"), "");
  EXPECT_EQ(error(std::string("\xFF\xFEn\0a\0", 6)),
            "net.prototxt is not text: its byte 4 is 0; expected a prototxt in ASCII or UTF-8");
  EXPECT_EQ(error("name\xEF\xBC\x9A 'old'"),
            "net.prototxt:1:5: found a character that is not ASCII outside of quotes and comments");
  EXPECT_EQ(error("layer {\n"), "net.prototxt:2:1: Expected identifier, got: the end of the file");
}

TEST(Dialects, AreSkippedOnRequestAndTold) {
  const DataFolder folder;
  WriteFile(folder / "empty.prototxt", "name: 'none'");
  EXPECT_EQ(ErrorOf([&] { ReadNet(folder / "empty.prototxt"); }),
            folder / "empty.prototxt" + " has no layers; expected a net");
  WriteFile(folder / "net.prototxt", kDialect);
  std::vector<std::string> said;
  const NetParameter net =
      ReadNet(folder / "net.prototxt",
              {.lenient = true, .say = [&](const std::string& note) { said.push_back(note); }});
  const std::string file = folder / "net.prototxt";
  ASSERT_EQ(said.size(), 5u);
  const auto begins = [&](size_t i, const std::string& text) {
    EXPECT_EQ(said[i].substr(0, file.size() + text.size()), file + text);
  };
  begins(0, ":2: NetParameter has no field \"print_net_info\", which is skipped; leave it out");
  begins(1, ":12: the field \"engine\" has no value MKL2017, which is skipped");
  begins(2, ":18: BatchNormParameter has no field \"scale_bias\", which is skipped, 2 times");
  begins(3, ":18: BatchNormParameter has no field \"scale_filler\", which is skipped");
  begins(4, ":25: the field \"pool\" has no value AVE_TF, which is skipped");
  EXPECT_EQ(net.layer(1).convolution_param().num_output(), 4u);
  EXPECT_EQ(net.layer(1).convolution_param().kernel_size(0), 3u);
  EXPECT_FALSE(net.layer(1).convolution_param().has_engine());
  EXPECT_FLOAT_EQ(net.layer(2).batch_norm_param().eps(), 0.001f);
  EXPECT_EQ(net.layer(4).pooling_param().kernel_size(), 2u);
  Workplace place;
  EXPECT_EQ(Net(place, net, {}).blob("pool").shape(), (Shape{1, 4, 5, 5}));
  WriteFile(folder / "bad.prototxt", "layer { name: 'a' typ: 3 type: 4 }");  // a wrong type stays an error
  EXPECT_NE(ErrorOf([&] {
              ReadNet(folder / "bad.prototxt", {.lenient = true, .say = [](const auto&) {}});
            }).find("bad.prototxt:1:32"),
            std::string::npos);
}

TEST(Dialects, TypesThatAreNotThereAreTold) {
  const auto error = [](const std::string& type) {
    return ErrorOf([&] {
      LayerParameter spec;
      spec.set_name("a"), spec.set_type(type);
      NewLayer(spec);
    });
  };
  EXPECT_EQ(error("BN"),
            "layer 'a' has the type 'BN', which is not there: it normalises, scales and shifts in one; "
            "write BatchNorm and behind it Scale with bias_term: true");
  for (const char* type :
       {"ROIPooling", "PriorBox", "DetectionOutput", "Python", "WindowData", "LSTM", "RNN"})
    EXPECT_NE(error(type).find("which is not there: "), std::string::npos) << type;
  EXPECT_NE(error("Convolutoin").find("did you mean 'Convolution'"), std::string::npos);
}
// ----------------------------------------------------------------------------------------------- stand-ins

NetParameter Parse(const std::string& text) {
  NetParameter net;
  ParseText(text, "test net", &net);
  return net;
}

Shape ShapeOfTop(const NetParameter& net, int top) {
  const auto& dims = net.layer(0).input_param().shape(top).dim();
  return Shape(dims.begin(), dims.end());
}

TEST(StandIns, HaveTheShapesThatTheSourcesTell) {
  const auto replaced = [](const std::string& layer, const Shape& image,
                           const std::map<std::string, Shape>& tops = {}) {
    return ReplaceSources(Parse("layer { name: 'd' " + layer + " }"), image, tops);
  };
  const std::string data = "type: 'Data' top: 'data' top: 'label' data_param { batch_size: 7 } ";
  NetParameter net = replaced(data, {1, 0, 0, 0});
  EXPECT_EQ(net.layer(0).type(), "Input");
  EXPECT_EQ(ShapeOfTop(net, 0), (Shape{1, 3, 112, 112}));
  EXPECT_EQ(ShapeOfTop(net, 1), Shape{1});
  EXPECT_EQ(ShapeOfTop(replaced(data + "transform_param { crop_size: 24 }", {0, 0, 0, 0}), 0),
            (Shape{7, 3, 24, 24}));
  EXPECT_EQ(ShapeOfTop(replaced(data + "transform_param { force_gray: true }", {0, 0, 5, 6}), 0),
            (Shape{7, 1, 5, 6}));
  EXPECT_EQ(ShapeOfTop(replaced("type: 'ImageData' top: 'x' image_data_param { new_height: 4 new_width: 6 "
                                "is_color: false batch_size: 2 }",
                                {0, 0, 0, 0}),
                       0),
            (Shape{2, 1, 4, 6}));
  EXPECT_EQ(ShapeOfTop(
                replaced("type: 'MemoryData' top: 'x' top: 'l' memory_data_param { batch_size: 2 channels: 1 "
                         "height: 28 width: 29 }",
                         {0, 0, 0, 0}),
                0),
            (Shape{2, 1, 28, 29}));
  net = replaced("type: 'HDF5Data' top: 'label' top: 'roi' top: 'data' hdf5_data_param { batch_size: 9 }",
                 {0, 0, 8, 8}, {{"roi", {0, 4}}});
  EXPECT_EQ(ShapeOfTop(net, 0), Shape{9});
  EXPECT_EQ(ShapeOfTop(net, 1), (Shape{9, 4}));
  EXPECT_EQ(ShapeOfTop(net, 2), (Shape{9, 3, 8, 8}));
  EXPECT_EQ(replaced("type: 'WindowData' top: 'data' top: 'label'", {2, 0, 0, 0}).layer(0).type(), "Input");
  EXPECT_EQ(MissingTypes(Parse("layer { type: 'LSTM' } layer { type: 'ReLU' } layer { type: 'LSTM' }")),
            std::vector<std::string>{"LSTM"});
}

}  // namespace
}  // namespace crema
