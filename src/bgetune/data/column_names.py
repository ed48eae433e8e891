"""What people call the columns of logs, of questions and answers, of labelled pairs, in Chinese and English."""

NAMES = {
    "query": "query q keyword keywords searchword searchterm searchtext searchquery querytext userquery word 查询 查询词 "
    "搜索词 搜索 检索词 关键词 关键字 搜索内容 搜索关键词 用户输入 query词",
    "title": "title clickedtitle clicktitle doctitle documenttitle itemtitle resulttitle pagetitle itemname docname 标题 "
    "点击标题 结果标题 文档标题 商品标题 商品名称 点击文档 点击内容",
    "url": "url clickedurl clickurl link page href docid documentid itemid clickedid clickid resultid targetid doc 链接 网址 "
    "点击链接 点击url 文档id 商品id 结果id",
    "user": "userid user uid visitorid visitor clientid memberid customerid cookie deviceid openid 用户 用户id 用户编号 用户名 "
    "会员id 会员 客户id 访客",
    "session": "sessionid session sid 会话 会话id",
    "time": "time timestamp ts date datetime createdat searchedat eventtime searchtime clicktime logtime dt 时间 日期 搜索时间 "
    "点击时间 时间戳 创建时间",
    "rank": "rank position pos clickrank clickposition 排名 位置 名次 点击位置",
    "dwell": "dwell dwelltime dwellseconds duration staytime stayseconds 停留 停留时间 停留时长",
    "clicked": "clicked isclicked click isclick clickflag action actionname event eventtype 是否点击 点击 行为 行为类型",
    "question": "question questions query ask questiontext standardquestion 问题 问 提问 问句 用户问题 标准问 标准问题 客户问题",
    "answer": "answer answers response reply answertext solution 答案 回答 答 回复 答复 标准答案 解答",
    "a": "texta text1 sentence1 sentencea s1 left query1 question1 q1 source 句子1 句子a 文本1 文本a 问题1 句1 query question",
    "b": "textb text2 sentence2 sentenceb s2 right query2 question2 q2 target document doc passage title answer candidate "
    "句子2 句子b 文本2 文本b 问题2 句2 文档 标题",
    "label": "label labels score grade similarity similar same y gold relevance rel isduplicate issame issimilar ismatch "
    "isparaphrase duplicate 标签 标注 是否相似 是否相同 是否一致 是否匹配 相似 相似度 得分 分数 等级 相关性",
    "words": "words word synonyms synonym terms 同义词 近义词 同义词组 词组",
    "text": "text content sentence body passage document doc title question query 文本 内容 正文 语料 句子 文档 标题 问题",
    "positives": "pos positive positives",
    "negatives": "neg negative negatives",
    "anchor": "anchor query",
}
"""What columns are called, letters and digits alone, by what they hold; the likelier name first."""
