#pragma once
// Whose threads parallel regions (parallel.h) run on.

namespace adze::core {

// Calls call(body, part) once for each part in [0, parts); parts of a region within a region run on
// the thread that opens it.
using RunParts = void (*)(int parts, void (*call)(void* body, int part), void* body);

// Another pool from here on (tensor/threads.h): for a program that must share the cores with a
// library's own threads. Call it before other threads open regions.
void replace_pool(RunParts run);

}  // namespace adze::core
