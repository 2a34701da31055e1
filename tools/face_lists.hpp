// Floor 7. The two lists of a face set: images to train on, and pairs of images of people that are held out.
// Included by tools only.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "crema/error.hpp"
#include "crema/io.hpp"
#include "crema/permutation.hpp"
#include "crema/philox.hpp"

namespace crema {

// People by their images' paths.
using People = std::vector<std::vector<std::string>>;

inline void WriteTrainList(const std::string& file, const People& people) {
  std::string text;
  for (size_t label = 0; label < people.size(); ++label)
    for (const std::string& image : people[label]) text += image + " " + std::to_string(label) + "\n";
  WriteFile(file, text);
}

namespace face_lists {

using Pairs = std::vector<std::pair<std::string, std::string>>;

// Pair number k of 0..n-1: the numbers j < i with k = i (i - 1) / 2 + j.
inline std::pair<size_t, size_t> PairNumber(int64_t k) {
  int64_t i = 1;
  for (; k >= i; ++i) k -= i;
  return {static_cast<size_t>(i), static_cast<size_t>(k)};
}

inline int64_t PairsOf(size_t count) {
  return static_cast<int64_t>(count * (count - 1) / 2);
}

// Round by round a pair of each person who has one left.
inline Pairs SamePairs(const People& people, int64_t most, uint64_t seed) {
  Pairs pairs;
  bool more = true;
  for (int64_t round = 0; more; ++round) {
    more = false;
    for (size_t who = 0; who < people.size(); ++who) {
      const auto& images = people[who];
      const int64_t possible = images.empty() ? 0 : PairsOf(images.size());
      if (round >= possible) continue;
      if (static_cast<int64_t>(pairs.size()) == most) return pairs;
      const auto [i, j] = PairNumber(Permutation(MixBits(seed, who), possible)(round));
      pairs.emplace_back(images[j], images[i]);
      more = true;
    }
  }
  return pairs;
}

inline Pairs DifferentPairs(const People& people, int64_t most, uint64_t seed) {
  std::vector<std::pair<size_t, const std::string*>> images;
  for (size_t who = 0; who < people.size(); ++who)
    for (const std::string& image : people[who]) images.emplace_back(who, &image);
  Pairs pairs;
  if (images.size() < 2) return pairs;
  const int64_t possible = PairsOf(images.size());
  const Permutation order(MixBits(seed, NameKey("different")), possible);
  for (int64_t k = 0; k < possible && static_cast<int64_t>(pairs.size()) < most; ++k) {
    const auto [i, j] = PairNumber(order(k));
    if (images[i].first != images[j].first) pairs.emplace_back(*images[j].second, *images[i].second);
  }
  return pairs;
}

}  // namespace face_lists

// Lines "a b same", same (1) and different (0) by turns, with tabs between them where a path has a blank. At
// most `wanted` pairs, as many of one kind as of the other, no pair twice; returns their number. Of a person
// at most 20 images are taken, so that nobody fills the list.
inline int64_t WritePairList(const std::string& file, People people, int64_t wanted, uint64_t seed) {
  constexpr size_t kMostImages = 20;
  bool blanks = false;
  for (size_t who = 0; who < people.size(); ++who) {
    std::vector<std::string> taken;
    const auto& images = people[who];
    if (images.empty()) continue;
    const Permutation order(MixBits(seed, who), static_cast<int64_t>(images.size()));
    for (size_t k = 0; k < std::min(images.size(), kMostImages); ++k)
      taken.push_back(images[static_cast<size_t>(order(static_cast<int64_t>(k)))]);
    for (const std::string& image : taken) blanks |= image.find(' ') != std::string::npos;
    people[who] = std::move(taken);
  }
  face_lists::Pairs same = face_lists::SamePairs(people, wanted / 2, seed);
  face_lists::Pairs different = face_lists::DifferentPairs(people, wanted / 2, seed);
  const size_t each = std::min(same.size(), different.size());
  Require(each > 0, "the ", people.size(), " people held out make ", same.size(), " pairs of one person and ",
          different.size(), " of two; expected at least one of each");
  const std::string separator = blanks ? "\t" : " ";
  std::string text;
  for (size_t k = 0; k < each; ++k) {
    text += same[k].first + separator + same[k].second + separator + "1\n";
    text += different[k].first + separator + different[k].second + separator + "0\n";
  }
  WriteFile(file, text);
  return static_cast<int64_t>(2 * each);
}

}  // namespace crema
