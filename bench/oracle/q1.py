from h import *
rows=[]
for parts in ["","unit","unit decay","unit slope","unit half","unit decay slope","unit slope half","unit decay half","unit decay slope half"]:
    for seed in range(5):
        panel,truth,train,true=get("weekly-mmm",seed)
        with told(truth,parts):
            m=CausalMMM(regime="regression",seed=seed).fit(train,progress=False)
            f=answer(m,train,truth)
        rows.append(dict(told=parts or "-",**score(f,true)))
    show(rows[-5:])
