import time,sys,warnings; warnings.simplefilter("ignore")
import numpy as np, torch
from dataclasses import replace
from contextlib import ExitStack, contextmanager
from importlib import import_module
from unittest.mock import patch
from causalmmm import CausalMMM, Panel
from causalmmm.simulation import simulate
from bench.experiments.contribution_floor import _edges
torch.set_num_threads(1)
H=13
def get(preset,seed):
    panel,truth=simulate(preset,seed=seed)
    frame=panel.to_frame(); weeks=truth.config.steps
    seen=np.tile(np.arange(weeks)<weeks-H,panel.n_stores)
    train=Panel.from_frame(frame[seen].reset_index(drop=True),panel.schema)
    true=truth.contributions()[:,:weeks-H].sum(1,dtype=float)
    return panel,truth,train,true
def answer(model,train,truth):
    sums=model.contributions(train).set_index(["store","series"])
    names=[(s,c) for s in train.stores.tolist() for c in truth.channels]
    return sums.loc[names,["total","total_lower","total_upper"]].to_numpy(float).reshape(train.n_stores,len(truth.channels),3)
def score(f,true):
    est=f[...,0]; p,w=est.sum(0),true.sum(0)
    ok=true>0
    return dict(pooled=np.abs(p-w).sum()/w.sum(), bias=(p-w).sum()/w.sum(), apart=np.median(np.abs(est/true-1)[ok]), roi=np.median(np.abs(p/w-1)),
      roibias=np.median(p/w-1), cover=np.mean((f[...,1]<=true)&(true<=f[...,2])), width=np.mean((f[...,2]-f[...,1])[ok]/true[ok]))
@contextmanager
def told(truth, parts, free=()):
    parts=set(parts.split())
    levels=torch.from_numpy(np.asarray(truth.levels,np.float64))
    fitting,asked=(import_module(f"causalmmm.engine.regression.{m}") for m in ("fit","posterior"))
    base=fitting.base_problem
    def unit(observed,senders,reference):
        return (observed.scale/levels)[:,list(senders)]
    def t(observed,plan,receiver,senders,*rest,**more):
        p=base(observed,plan,receiver,senders,*rest,**more); n=len(senders)
        if not n: return p
        s=list(senders); spec=p.spec; c,w=spec.centre.clone(),spec.width.clone()
        vals={"decay":np.log(truth.decay[s]/(1-truth.decay[s])),"slope":np.log(truth.slope[0,s]),"half":np.log(truth.half_saturation[0,s])}
        for k,name in enumerate(("decay","slope","half")):
            if name in parts:
                c[k*n:(k+1)*n]=torch.from_numpy(np.asarray(vals[name],np.float64)); w[k*n:(k+1)*n]=1e-3
        return replace(p,spec=replace(spec,centre=c,width=w))
    with ExitStack() as st:
        for m in (fitting,asked):
            st.enter_context(patch.object(m,"base_problem",t))
            if "unit" in parts: st.enter_context(patch.object(m,"sender_unit",unit))
        if "decay" in parts: st.enter_context(patch.object(fitting,"best_decays",lambda p,m:m))
        yield
def show(rows):
    import pandas as pd
    d=pd.DataFrame(rows); k=[c for c in d if not pd.api.types.is_numeric_dtype(d[c])]
    print(d.groupby(k,sort=False).mean(numeric_only=True).round(3).to_string(),flush=True)
