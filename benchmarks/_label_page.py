def write(page, cells, seeds, choosing):
    from collections import defaultdict

    import numpy as np
    R=defaultdict(list)
    for c in cells:
        R[c['data'],c['pool'],c['arm'],c['budget']].append(c['score'])
    for k in dict.fromkeys(k[:3] for k in R): print(f'{k[0]:14s} {k[1]:5d} {k[2]:32s}', ' '.join('%.3f'%np.mean(R[(*k,n)]) if (*k,n) in R else '  -  ' for n in (10,20,40,80,160)), len(R[(*k,20)]))
    return {}
