from hmc import *
import sys; from bench.experiments.contribution_floor import _edges
seeds=[int(s) for s in sys.argv[1].split(",")]; cases=sys.argv[2:]
for case in cases:
    ed,pr,sm=case.split("/"); rows=[]
    for seed in seeds:
        panel,truth,train,true=get("weekly-mmm",seed); STAT.clear()
        with law(truth,pr), sampler(sm=="hmc"):
            m=CausalMMM(regime="regression",seed=seed,**(_edges(truth) if ed=="edges" else {})).fit(train,progress=False)
            f=answer(m,train,truth)
        rows.append(dict(case=case,**score(f,true)))
        if STAT: print(seed,{k:round(float(v),3) for k,v in rows[-1].items() if k!="case"},[tuple(round(x,2) for x in s) for s in STAT],flush=True)
    show(rows)
