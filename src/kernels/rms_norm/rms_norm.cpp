#include "kernels/rms_norm/rms_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm/rms_norm.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

void norm_row(const RmsNorm& norm, int64_t row) {
  const int64_t offset = row * norm.columns;
  const float* values = norm.x + offset;
  Vector squares[kParts];
  for (int part = 0; part < kParts; ++part) {
    squares[part] = hn::Zero(kFloats);
  }
  for (int64_t column = 0; column < norm.columns; column += 16) {
    for (int part = 0; part < kParts; ++part) {
      const int64_t place = column + part * kLanes;
      Vector value = hn::LoadU(kFloats, values + place);
      if (norm.delta != nullptr) {
        value = hn::Add(value, hn::LoadU(kFloats, norm.delta + offset + place));
        hn::StoreU(value, kFloats, norm.sum + offset + place);
      }
      squares[part] = hn::MulAdd(value, value, squares[part]);
    }
  }
  const float total = sum_of_sixteen(squares);
  const float scale = 1.0F / std::sqrt(total / static_cast<float>(norm.columns) + norm.epsilon);
  const Vector scales = hn::Set(kFloats, scale);
  const float* summed = norm.delta != nullptr ? norm.sum + offset : values;
  for (int64_t column = 0; column < norm.columns; column += kLanes) {
    const Vector scaled = hn::Mul(hn::LoadU(kFloats, summed + column), scales);
    hn::StoreU(hn::Mul(scaled, hn::LoadU(kFloats, norm.weight + column)),
               kFloats,
               norm.y + offset + column);
  }
}

void norm_rows(const RmsNorm& norm) {
  // 16 rows of a few kB are the least that pays for waking a thread.
  core::parallel_for(norm.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      norm_row(norm, row);
    }
  });
}

// `sums` [columns] collects the weight's gradient of some rows; null: not wanted.
void gradient_row(const RmsNormGradient& norm, int64_t row, float* sums) {
  const int64_t offset = row * norm.columns;
  const float* x = norm.x + offset;
  const float* y_gradient = norm.y_gradient + offset;
  Vector squares[kParts];
  Vector products[kParts];
  for (int part = 0; part < kParts; ++part) {
    squares[part] = products[part] = hn::Zero(kFloats);
  }
  for (int64_t column = 0; column < norm.columns; column += 16) {
    for (int part = 0; part < kParts; ++part) {
      const int64_t place = column + part * kLanes;
      const Vector value = hn::LoadU(kFloats, x + place);
      const Vector scaled =
          hn::Mul(hn::LoadU(kFloats, y_gradient + place), hn::LoadU(kFloats, norm.weight + place));
      squares[part] = hn::MulAdd(value, value, squares[part]);
      products[part] = hn::MulAdd(value, scaled, products[part]);
    }
  }
  const auto columns = static_cast<float>(norm.columns);
  const float scale = 1.0F / std::sqrt(sum_of_sixteen(squares) / columns + norm.epsilon);
  const Vector scales = hn::Set(kFloats, scale);
  const Vector pull =
      hn::Set(kFloats, -scale * scale * scale * (sum_of_sixteen(products) / columns));
  for (int64_t column = 0; column < norm.columns; column += kLanes) {
    const Vector value = hn::LoadU(kFloats, x + column);
    const Vector gradient = hn::LoadU(kFloats, y_gradient + column);
    Vector result = hn::MulAdd(
        hn::Mul(gradient, hn::LoadU(kFloats, norm.weight + column)), scales, hn::Mul(value, pull));
    if (norm.sum_gradient != nullptr) {
      result = hn::Add(result, hn::LoadU(kFloats, norm.sum_gradient + offset + column));
    }
    if (sums != nullptr) {
      const Vector sum = hn::LoadU(kFloats, sums + column);
      hn::StoreU(hn::MulAdd(hn::Mul(value, scales), gradient, sum), kFloats, sums + column);
    }
    hn::StoreU(result, kFloats, norm.x_gradient + offset + column);
  }
}

void gradient_rows(const RmsNormGradient& norm) {
  constexpr int64_t kBlock = 64;
  const int64_t blocks = (norm.rows + kBlock - 1) / kBlock;
  const auto columns = static_cast<size_t>(norm.columns);
  std::vector<float> sums;
  if (norm.weight_gradient != nullptr) {
    sums.assign(static_cast<size_t>(blocks) * columns, 0.0F);
  }
  core::parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      float* block_sums =
          sums.empty() ? nullptr : sums.data() + static_cast<size_t>(block) * columns;
      for (int64_t row = block * kBlock; row < std::min((block + 1) * kBlock, norm.rows); ++row) {
        gradient_row(norm, row, block_sums);
      }
    }
  });
  for (size_t i = 0; i < sums.size(); ++i) {
    norm.weight_gradient[i % columns] += sums[i];
  }
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(norm_rows);
HWY_EXPORT(gradient_rows);

void rms_norm(const RmsNorm& norm) {
  core::check(norm.columns % 16 == 0, "columns % 16, got ", norm.columns);
  HWY_DYNAMIC_DISPATCH(norm_rows)(norm);
}

void rms_norm_gradient(const RmsNormGradient& norm) {
  core::check(norm.columns % 16 == 0, "columns % 16, got ", norm.columns);
  HWY_DYNAMIC_DISPATCH(gradient_rows)(norm);
}

}  // namespace adze::kernels
#endif
