"""Steps of FAdam by the sheet's lines 4 to 14, written down anew in NumPy (float64), for the tests.

Seed 7; a matrix [5, 7] that decays and a vector [3] that does not; six steps, the fourth with a
gradient a hundred times as large, so that the clip works. Prints steps.json.
"""
import json

import numpy as np


def steps(settings, count=6):
    rng = np.random.default_rng(7)
    shapes, decays = [(5, 7), (3,)], [True, False]
    values = [rng.normal(0, 0.5, shape) for shape in shapes]
    gradients = [[rng.normal(0, 0.1, shape) * (100 if step == 3 else 1) for shape in shapes]
                 for step in range(count)]
    beta1, beta2, rate = 0.9, 0.95, 0.01
    first = [value.copy() for value in values]
    moment = [np.zeros(shape) for shape in shapes]
    fisher = [np.ones(shape) for shape in shapes]
    for t in range(1, count + 1):
        for i, theta in enumerate(values):
            g = gradients[t - 1][i]
            keep = beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2 ** t)
            fisher[i] = keep * fisher[i] + (1 - keep) * g * g
            size = np.sqrt(np.mean(g * g))
            epsilon = {"rel": 1e-8 * min(1, size), "fixed": 1e-8,
                       "min": min(1e-8, 1e-3 * size)}[settings["epsilon_mode"]]
            divisor = fisher[i] ** settings["power"] + epsilon
            n = g / divisor
            n = n / max(1, np.sqrt(np.mean(n * n)) / settings["clip"])
            moment[i] = beta1 * moment[i] + (1 - beta1) * n
            w = theta / divisor
            w = w / max(1, np.sqrt(np.mean(w * w)) / settings["clip"])
            values[i] = theta - rate * (moment[i] + (settings["weight_decay"] * w if decays[i] else 0))
    flat = lambda arrays: [float(x) for array in arrays for x in array.ravel()]
    return {"settings": settings, "start": flat(first), "gradients": [flat(g) for g in gradients],
            "values": flat(values), "momentum": flat(moment), "fisher": flat(fisher)}


print(json.dumps([steps({"epsilon_mode": mode, "power": power, "clip": clip, "weight_decay": decay})
                  for mode, power, clip, decay in [("rel", 0.5, 1.0, 0.1), ("min", 0.5, 2.0, 0.01),
                                                   ("fixed", 0.25, 0.5, 0.0), ("rel", 1.0, 1.0, 0.1)]]))
