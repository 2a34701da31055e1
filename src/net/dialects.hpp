// Floor 4. What the words of Caffe's forks are that Crema does not have, and what to write instead. Called
// where nets and solvers are read and layers are made.
#pragma once

#include <string>

#include "crema/io.hpp"

namespace crema {

// About a field or a value; "" where nothing is known.
std::string AdviceOnWord(const UnknownWord& word);
// About a layer's type; "" where nothing is known.
std::string AdviceOnType(const std::string& type);

}  // namespace crema
