# Sanitizers build only what does not need libtorch (its binaries are not instrumented).
if(ADZE_SANITIZE)
  add_compile_options(-fsanitize=${ADZE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
                      # GCC guesses wrong in instrumented code.
                      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${ADZE_SANITIZE})
  # Kernels would take many minutes a file to compile with them: one instruction set beside the
  # emulated one, and (sanitize_kernels) no checks for undefined behaviour.
  add_compile_definitions("HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4|HWY_AVX3|HWY_AVX3_DL)")
endif()
function(sanitize_kernels target)
  if(ADZE_SANITIZE)
    target_compile_options(${target} PRIVATE -fno-sanitize=undefined)
  endif()
endfunction()
if(ADZE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "ADZE_FUZZ needs clang; use `cmake --preset fuzz`")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(ADZE_COVERAGE)
  add_compile_options(--coverage -fprofile-abs-path)
  add_link_options(--coverage)
endif()
