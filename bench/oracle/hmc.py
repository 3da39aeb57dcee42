from h import *
from causalmmm.engine.regression.optimise import laplace_draws, curvature
from causalmmm.engine.regression.problem import objective, in_single, Mode
STAT=[]
def hmc_draws(problem, mode, draws, seed, chains=24, warm=40, keep=60, leap=6):
    t0=time.process_time()
    K,B=len(mode.theta),len(mode.log_noise)
    val,ax=torch.linalg.eigh(curvature(problem,mode))
    L=ax*val.clamp_min(.5).rsqrt()  # theta = mode + L z
    rows=problem.design.count
    sn=(2*(rows-15).clamp_min(2)).rsqrt()
    p=in_single(problem)
    def f(z):
        z=z.requires_grad_()
        th=mode.theta+z[:,:K]@L.mT; ln=mode.log_noise+z[:,K:]*sn
        v=objective(p,th,ln); (g,)=torch.autograd.grad(v.sum(),z)
        return v.detach(),g
    gen=torch.Generator().manual_seed(seed)
    z=torch.randn(chains,K+B,generator=gen,dtype=torch.float64)*.8
    v,g=f(z); z=z.detach(); eps=torch.tensor(.4); out=[];acc=[]
    for it in range(warm+keep):
        m=torch.randn(z.shape,generator=gen,dtype=torch.float64)
        e=eps*(0.8+.4*torch.rand(chains,1,generator=gen,dtype=torch.float64))
        q,r,gq=z,m,g
        for _ in range(leap):
            r=r+.5*e*gq; q=(q+e*r).detach(); vq,gq=f(q); q=q.detach(); r=r+.5*e*gq
        d=(vq-.5*r.square().sum(-1))-(v-.5*m.square().sum(-1))
        a=d.exp().clamp_max(1).nan_to_num(0)
        ok=torch.rand(chains,generator=gen,dtype=torch.float64)<a
        z=torch.where(ok[:,None],q,z); v=torch.where(ok,vq,v); g=torch.where(ok[:,None],gq,g)
        if it<warm: eps=eps*torch.exp(.2*(a.mean()-.8))
        else: out.append(z); acc.append(a.mean())
    Z=torch.stack(out)  # [keep, chains, K+B]
    within=Z.var(0).mean(0); between=Z.mean(0).var(0)
    rhat=((within*(keep-1)/keep+between)/within).sqrt()
    STAT.append((float(torch.stack(acc).mean()),float(eps),float(rhat[:K].max()),float(rhat[:K].median()),time.process_time()-t0))
    flat=Z[...,:K].flatten(0,1); idx=torch.linspace(0,len(flat)-1,draws).long()
    return mode.theta+flat[torch.randperm(len(flat),generator=gen)[:draws]]@L.mT
@contextmanager
def sampler(hmc,**kw):
    fitting=import_module("causalmmm.engine.regression.fit")
    with ExitStack() as st:
        if hmc: st.enter_context(patch.object(fitting,"laplace_draws",lambda *a: hmc_draws(*a,**kw)))
        yield
@contextmanager
def law(truth, parts):
    """parts of the law's own prior: decay slope half effect spread"""
    parts=set(parts.split()); N=len(truth.nodes); C=len(truth.channels); cfg=truth.config
    fitting,asked=(import_module(f"causalmmm.engine.regression.{m}") for m in ("fit","posterior"))
    base=fitting.base_problem
    lm=lambda a,b:(float(np.mean(np.log(np.linspace(a,b,1001)))),float(np.std(np.log(np.linspace(a,b,1001)))))
    def t(observed,plan,receiver,senders,*rest,**more):
        p=base(observed,plan,receiver,senders,*rest,**more); n=len(senders)
        if not n or not plan.shaped(receiver): return p
        s=list(senders); spec=p.spec; c,w=spec.centre.clone(),spec.width.clone(); beta=spec.beta
        def put(k,i,mv): c[k*n+i],w[k*n+i]=mv
        if "decay" in parts:
            a,b=cfg.decay; m=(a+b)/2; v=(b-a)**2/12; q=m*(1-m)/v-1; beta=(m*q,(1-m)*q)
        for i,x in enumerate(s):
            if "slope" in parts: put(1,i,lm(*(cfg.slope if x<C else cfg.outcome_slope)))
            if "half" in parts: put(2,i,lm(*cfg.half_saturation))
            if "effect" in parts:
                e=(cfg.effect_on_target if x<C else cfg.effect_of_mediator) if receiver==N-1 else cfg.effect_on_mediator
                whole=1+.5*(C*.75*cfg.effect_on_target*1.08+cfg.effect_of_mediator*1.08) if receiver==N-1 else 1+.5*C*.5*cfg.effect_on_mediator*1.08
                put(3,i,(float(np.log(e/whole)),.42))
            if "spread" in parts: put(4,i,(float(np.log(cfg.store_spread)),.15))
        return replace(p,spec=replace(spec,centre=c,width=w,beta=beta))
    with ExitStack() as st:
        for m in (fitting,asked): st.enter_context(patch.object(m,"base_problem",t))
        yield
