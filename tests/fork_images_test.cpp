// Layers of Caffe's forks that move, repeat or scale what images are made of, on examples worked out by hand.
#include "layer_checks.hpp"

namespace crema {
namespace {

using testing::HasSubstr;

TEST(ChannelScale, ScalesSamplesOrPositions) {
  ExpectNear(Top(*Ran({"ChannelScale", "", "", {{{2, 2}}, {{2, 1}}}}, {{1, 2, 3, 4}, {10, -1}})),
             {10, 20, -3, -4});
  ExpectNear(Top(*Ran({"ChannelScale", "", "", {{{1, 2, 1, 2}}, {{1, 1, 1, 2}}}}, {{1, 2, 3, 4}, {10, -1}})),
             {10, -2, 30, -4});
  EXPECT_THAT(ErrorOf({"ChannelScale", "", "", {{{2, 2}}, {{2, 2}}}}),
              HasSubstr("for each sample and position"));
}

TEST(Axpy, IsAxPlusY) {
  const ContractRow row{"Axpy", "", "", {{{1, 2}}, {{1, 2, 1, 2}}, {{1, 2, 1, 2}}}};
  ExpectNear(Top(*Ran(row, {{2, -1}, {1, 2, 3, 4}, {10, 20, 30, 40}})), {12, 24, 27, 36});
  EXPECT_THAT(ErrorOf({"Axpy", "", "", {{{1, 3}}, {{1, 2, 1, 2}}, {{1, 2, 1, 2}}}}),
              HasSubstr("sample and channel"));
}

// DepthwiseConvolution and ConvolutionDepthwise compute what Convolution does with as many groups as
// channels.
TEST(Depthwise, IsAConvolutionWithAGroupForEachChannel) {
  const std::vector<ContractBottom> image = {{{2, 4, 6, 5}}};
  const std::string sizes = "num_output: 8 kernel_size: 3 pad: 1 stride: 2 ";
  const auto reference = Ran({"Convolution", "", "convolution_param { " + sizes + "group: 4 }", image}, {});
  EXPECT_EQ(reference->layer->param(0).shape, (Shape{8, 1, 3, 3}));
  for (const char* type : {"DepthwiseConvolution", "ConvolutionDepthwise"}) {
    for (const char* group : {"", "group: 4"}) {
      const auto bench = Ran({type, "", "convolution_param { " + sizes + group + " }", image}, {});
      EXPECT_EQ(bench->layer->param(0).shape, (Shape{8, 1, 3, 3}));
      EXPECT_EQ(Top(*bench), Top(*reference));
    }
    EXPECT_THAT(ErrorOf({type, "", "convolution_param { " + sizes + "group: 2 }", image}),
                HasSubstr("group is 2 for 4 channels"));
  }
}

TEST(Flip, MirrorsColumnsAndRows) {
  const std::vector<ContractBottom> image = {{{1, 1, 2, 3}}};
  const Values x = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(Top(*Ran({"Flip", "", "", image}, {x})), (Values{3, 2, 1, 6, 5, 4}));
  EXPECT_EQ(Top(*Ran({"Flip", "", "flip_param { flip_width: false flip_height: true }", image}, {x})),
            (Values{4, 5, 6, 1, 2, 3}));
}

TEST(ShuffleChannel, ReadsRowsByColumns) {
  const ContractRow row{"ShuffleChannel", "", "shuffle_channel_param { group: 2 }", {{{1, 6}}}};
  EXPECT_EQ(Top(*Ran(row, {{0, 1, 2, 3, 4, 5}})), (Values{0, 3, 1, 4, 2, 5}));
  EXPECT_THAT(ErrorOf({"ShuffleChannel", "", "shuffle_channel_param { group: 4 }", {{{1, 6}}}}),
              HasSubstr("4 groups do not divide 6 channels"));
}

TEST(Permute, PutsAxesInOrder) {
  const auto bench = Ran({"Permute", "", "permute_param { order: 0 order: 2 order: 1 }", {{{1, 2, 3}}}},
                         {{1, 2, 3, 4, 5, 6}});
  EXPECT_EQ(bench->top[0]->shape(), (Shape{1, 3, 2}));
  EXPECT_EQ(Top(*bench), (Values{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(LayerBench({"Permute", "", "permute_param { order: 2 }", {{{4, 2, 3}}}}).top[0]->shape(),
            (Shape{3, 4, 2}));
  EXPECT_THAT(ErrorOf({"Permute", "", "permute_param { order: 1 order: 1 }", {{{1, 2, 3}}}}),
              HasSubstr("once at most"));
  EXPECT_THAT(ErrorOf({"Permute", "", "permute_param { order: 3 }", {{{1, 2, 3}}}}), HasSubstr("axis 3"));
}

TEST(Squeeze, RemovesAxesOfSizeOne) {
  const auto shape = [](const std::string& fields) {
    return LayerBench({"Squeeze", "", fields, {{{1, 3, 1, 2}}}}).top[0]->shape();
  };
  EXPECT_EQ(shape(""), (Shape{3, 2}));
  EXPECT_EQ(shape("squeeze_param { axis: 2 }"), (Shape{1, 3, 2}));
  EXPECT_EQ(shape("squeeze_param { axis: 0 axis: -2 }"), (Shape{3, 2}));
  EXPECT_THAT(ErrorOf({"Squeeze", "", "squeeze_param { axis: 1 }", {{{1, 3, 1, 2}}}}),
              HasSubstr("has size 3"));
}

TEST(Upsample, RepeatsPixels) {
  const auto bench = Ran({"Upsample", "", "upsample_param { scale: 2 }", {{{1, 1, 1, 2}}}}, {{1, 2}});
  EXPECT_EQ(Top(*bench), (Values{1, 1, 2, 2, 1, 1, 2, 2}));
  EXPECT_EQ(BottomGrad(bench.get(), {1, 2, 3, 4, 5, 6, 7, 8}), (Values{1 + 2 + 5 + 6, 3 + 4 + 7 + 8}));
}

TEST(Interp, HasDeepLabsSizes) {
  const auto shape = [](const std::string& fields) {
    return LayerBench({"Interp", "", "interp_param { " + fields + " }", {{{1, 1, 9, 6}}}}).top[0]->shape();
  };
  EXPECT_EQ(shape("zoom_factor: 8"), (Shape{1, 1, 65, 41}));
  EXPECT_EQ(shape("shrink_factor: 2"), (Shape{1, 1, 5, 3}));
  EXPECT_EQ(shape("shrink_factor: 2 zoom_factor: 3"), (Shape{1, 1, 13, 7}));
  EXPECT_EQ(shape("height: 4 width: 7"), (Shape{1, 1, 4, 7}));
  EXPECT_EQ(shape("zoom_factor: 2 pad_beg: -1 pad_end: -2"), (Shape{1, 1, 11, 5}));
  const auto error = [](const std::string& fields) {
    return ErrorOf({"Interp", "", "interp_param { " + fields + " }", {{{1, 1, 9, 6}}}});
  };
  EXPECT_THAT(error(""), HasSubstr("not given clearly"));
  EXPECT_THAT(error("height: 4"), HasSubstr("together"));
  EXPECT_THAT(error("zoom_factor: 2 pad_beg: 1"), HasSubstr("expected 0 or less"));
  EXPECT_THAT(error("zoom_factor: 2 pad_beg: -6"), HasSubstr("leave nothing of 6"));
}

TEST(Interp, PutsCornersOnCorners) {
  const ContractRow wide{"Interp", "", "interp_param { height: 1 width: 5 }", {{{1, 1, 2, 3}}}};
  ExpectNear(Top(*Ran(wide, {{0, 2, 6, 9, 9, 9}})), {0, 1, 2, 4, 6});
  const ContractRow cut{"Interp", "", "interp_param { height: 3 width: 2 pad_beg: -1 }", {{{1, 1, 3, 3}}}};
  // Of 5 6 / 8 10.
  ExpectNear(Top(*Ran(cut, {{0, 0, 0, 0, 5, 6, 0, 8, 10}})), {5, 6, 6.5, 8, 8, 10});
}

TEST(Activations, OfMobileNetsFollowTheirFormulas) {
  const Values x = {-4, -3, -1.5, 0, 1.5, 3, 5, 7};
  const std::vector<ContractBottom> vector = {{{2, 4}}};
  EXPECT_EQ(Top(*Ran({"ReLU6", "", "", vector}, {x})), (Values{0, 0, 0, 0, 1.5, 3, 5, 6}));
  ExpectNear(Top(*Ran({"HardSwish", "", "", vector}, {x})), {0, 0, -1.5 * 0.25, 0, 1.5 * 0.75, 3, 5, 7});
}

TEST(Pooling, RoundsAsCeilModeSays) {
  const auto shape = [](const std::string& fields) {
    return LayerBench({"Pooling",
                       "",
                       "pooling_param { kernel_size: 3 stride: 2 " + fields + " }",
                       {{{1, 1, 112, 6}}}})
        .top[0]
        ->shape();
  };
  EXPECT_EQ(shape(""), (Shape{1, 1, 56, 3}));
  EXPECT_EQ(shape("ceil_mode: true"), (Shape{1, 1, 56, 3}));
  EXPECT_EQ(shape("ceil_mode: false"), (Shape{1, 1, 55, 2}));
  EXPECT_EQ(shape("ceil_mode: false round_mode: FLOOR"), (Shape{1, 1, 55, 2}));
  EXPECT_THAT(ErrorOf({"Pooling",
                       "",
                       "pooling_param { kernel_size: 3 ceil_mode: false round_mode: CEIL }",
                       {{{1, 1, 8, 8}}}}),
              HasSubstr("contradict"));
}

}  // namespace
}  // namespace crema
