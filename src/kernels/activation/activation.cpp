#include "kernels/activation/activation.h"

#include <type_traits>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation/activation.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/contrib/math/math-inl.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// value * sigmoid(-exponent)
HWY_INLINE Vector damp(Vector value, Vector exponent) {
  // NOTE: Highway's Exp wraps above 88.7. A gate beyond 88 passes less than 1e-36 of its input.
  const Vector largest = hn::Set(kFloats, 88.0F);
  const Vector power = hn::Exp(kFloats, hn::Min(exponent, largest));
  return hn::Div(value, hn::Add(hn::Set(kFloats, 1.0F), power));
}

// Where both forms of GELU are zero to all digits: keeps -infinity from meeting a factor of zero.
HWY_INLINE Vector above_vanished(Vector value) {
  const Vector vanished = hn::Set(kFloats, -32.0F);
  return hn::IfThenElse(hn::Lt(value, vanished), vanished, value);  // NaN stays
}

HWY_INLINE Vector silu(Vector value) {
  return damp(value, hn::Neg(value));
}

// (1 + tanh(u)) / 2 = sigmoid(2 u)
HWY_INLINE Vector gelu_tanh(Vector value) {
  value = above_vanished(value);
  const Vector linear = hn::Set(kFloats, -1.5957691F);  // -2 sqrt(2 / π)
  const Vector cubic = hn::Set(kFloats, -1.5957691F * 0.044715F);
  const Vector factor = hn::MulAdd(hn::Mul(value, value), cubic, linear);
  return damp(value, hn::Mul(value, factor));
}

// The upper tail of the normal distribution at x >= 0 is exp(-x² / 2) times a slowly falling
// function, here t P(t) with t = 1 / (1 + 0.21 x) and P of degree 8: fitted to x in [0, 15] for the
// least largest relative error, which is 6e-8 with coefficients in f32.
HWY_INLINE Vector upper_tail(Vector x) {
  constexpr float kCoefficients[] = {0.0837184741F,
                                     0.0849595019F,
                                     0.0699269272F,
                                     0.122138163F,
                                     -0.0877534866F,
                                     0.340740741F,
                                     -0.322864508F,
                                     0.28007871F,
                                     -0.0709445106F};
  constexpr int kCount = sizeof(kCoefficients) / sizeof(float);
  const Vector one = hn::Set(kFloats, 1.0F);
  const Vector t = hn::Div(one, hn::MulAdd(x, hn::Set(kFloats, 0.21F), one));
  Vector sum = hn::Set(kFloats, kCoefficients[kCount - 1]);
  for (int i = kCount - 2; i >= 0; --i) {
    sum = hn::MulAdd(sum, t, hn::Set(kFloats, kCoefficients[i]));
  }
  const Vector exponent = hn::Mul(hn::Mul(x, x), hn::Set(kFloats, -0.5F));
  return hn::Mul(hn::Mul(sum, t), hn::Exp(kFloats, exponent));
}

// Φ(x), the normal distribution.
HWY_INLINE Vector normal_share(Vector x) {
  const Vector tail = upper_tail(hn::Abs(x));
  // Negative values take the tail itself: 1 - (1 - tail) would lose its digits.
  return hn::IfNegativeThenElse(x, tail, hn::Sub(hn::Set(kFloats, 1.0F), tail));
}

HWY_INLINE Vector gelu(Vector value) {
  value = above_vanished(value);
  return hn::Mul(value, normal_share(value));
}

template <Activation activation>
HWY_INLINE Vector activated(Vector value) {
  if constexpr (activation == Activation::kSilu) {
    return silu(value);
  } else if constexpr (activation == Activation::kGelu) {
    return gelu(value);
  } else {
    return gelu_tanh(value);
  }
}

// Calls body with the activation as a type.
template <class Body>
void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kSilu:
      return body(std::integral_constant<Activation, Activation::kSilu>());
    case Activation::kGelu:
      return body(std::integral_constant<Activation, Activation::kGelu>());
    case Activation::kGeluTanh:
      return body(std::integral_constant<Activation, Activation::kGeluTanh>());
  }
}

template <Activation activation>
void activate_elements(const float* gate, const float* up, int64_t begin, int64_t end, float* y) {
  if (up == nullptr) {
    for (int64_t i = begin; i < end; i += kLanes) {
      hn::StoreU(activated<activation>(hn::LoadU(kFloats, gate + i)), kFloats, y + i);
    }
    return;
  }
  for (int64_t i = begin; i < end; i += kLanes) {
    const Vector value = activated<activation>(hn::LoadU(kFloats, gate + i));
    hn::StoreU(hn::Mul(value, hn::LoadU(kFloats, up + i)), kFloats, y + i);
  }
}

void activate_rows(Activation activation,
                   const float* gate,
                   const float* up,
                   int64_t rows,
                   int64_t columns,
                   float* y) {
  core::parallel_for(rows, 8, [&](int64_t first, int64_t last) {
    with_activation(activation, [&](auto kind) {
      activate_elements<kind.value>(gate, up, first * columns, last * columns, y);
    });
  });
}

struct Activated {
  Vector value;
  Vector slope;
};

HWY_INLINE Activated silu_and_slope(Vector gate) {
  const Vector one = hn::Set(kFloats, 1.0F);
  const Vector lowest = hn::Set(kFloats, -88.0F);             // below, damp() passes too much
  gate = hn::IfThenElse(hn::Lt(gate, lowest), lowest, gate);  // NaN stays
  const Vector share = damp(one, hn::Neg(gate));              // sigmoid
  const Vector value = hn::Mul(gate, share);
  // s + g s (1 - s)
  return {value, hn::MulAdd(value, hn::Sub(one, share), share)};
}

HWY_INLINE Activated gelu_tanh_and_slope(Vector gate) {
  gate = hn::Min(above_vanished(gate), hn::Set(kFloats, 1e9F));  // squares stay finite
  const Vector one = hn::Set(kFloats, 1.0F);
  const Vector linear = hn::Set(kFloats, 1.5957691F);  // 2 sqrt(2 / π)
  const Vector cubic = hn::Set(kFloats, 1.5957691F * 0.044715F);
  const Vector square = hn::Mul(gate, gate);
  const Vector exponent = hn::Mul(gate, hn::MulAdd(square, cubic, linear));
  const Vector share = damp(one, hn::Neg(exponent));  // sigmoid(2 u)
  const Vector rise = hn::MulAdd(square, hn::Set(kFloats, 3 * 1.5957691F * 0.044715F), linear);
  const Vector value = hn::Mul(gate, share);
  // The factor 1 - s is exactly zero where the rise is large.
  return {value, hn::MulAdd(hn::Mul(value, hn::Sub(one, share)), rise, share)};
}

HWY_INLINE Activated gelu_and_slope(Vector gate) {
  gate = hn::Min(above_vanished(gate), hn::Set(kFloats, 1e9F));
  const Vector share = normal_share(gate);
  const Vector density =
      hn::Mul(hn::Exp(kFloats, hn::Mul(hn::Mul(gate, gate), hn::Set(kFloats, -0.5F))),
              hn::Set(kFloats, 0.39894228F));  // 1 / sqrt(2 π)
  return {hn::Mul(gate, share), hn::MulAdd(gate, density, share)};
}

template <Activation activation>
HWY_INLINE Activated activated_and_slope(Vector gate) {
  if constexpr (activation == Activation::kSilu) {
    return silu_and_slope(gate);
  } else if constexpr (activation == Activation::kGelu) {
    return gelu_and_slope(gate);
  } else {
    return gelu_tanh_and_slope(gate);
  }
}

template <Activation activation>
void gradient_elements(const float* gate,
                       const float* up,
                       const float* y_gradient,
                       int64_t begin,
                       int64_t end,
                       float* gate_gradient,
                       float* up_gradient) {
  for (int64_t i = begin; i < end; i += kLanes) {
    const Activated result = activated_and_slope<activation>(hn::LoadU(kFloats, gate + i));
    const Vector gradient = hn::LoadU(kFloats, y_gradient + i);
    Vector through = gradient;
    if (up != nullptr) {
      through = hn::Mul(gradient, hn::LoadU(kFloats, up + i));
      hn::StoreU(hn::Mul(gradient, result.value), kFloats, up_gradient + i);
    }
    hn::StoreU(hn::Mul(through, result.slope), kFloats, gate_gradient + i);
  }
}

void gradient_rows(Activation activation,
                   const float* gate,
                   const float* up,
                   const float* y_gradient,
                   int64_t rows,
                   int64_t columns,
                   float* gate_gradient,
                   float* up_gradient) {
  core::parallel_for(rows, 8, [&](int64_t first, int64_t last) {
    with_activation(activation, [&](auto kind) {
      gradient_elements<kind.value>(
          gate, up, y_gradient, first * columns, last * columns, gate_gradient, up_gradient);
    });
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(activate_rows);
HWY_EXPORT(gradient_rows);

void activate(Activation activation,
              const float* gate,
              const float* up,
              int64_t rows,
              int64_t columns,
              float* y) {
  core::check(columns % 16 == 0, "columns % 16, got ", columns);
  HWY_DYNAMIC_DISPATCH(activate_rows)(activation, gate, up, rows, columns, y);
}

void activate_gradient(Activation activation,
                       const float* gate,
                       const float* up,
                       const float* y_gradient,
                       int64_t rows,
                       int64_t columns,
                       float* gate_gradient,
                       float* up_gradient) {
  core::check(columns % 16 == 0, "columns % 16, got ", columns);
  HWY_DYNAMIC_DISPATCH(gradient_rows)
  (activation, gate, up, y_gradient, rows, columns, gate_gradient, up_gradient);
}

}  // namespace adze::kernels
#endif
